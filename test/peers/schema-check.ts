/** A JSON Schema as far as ours goes: the keywords that src/manifest writes, each as JSON Schema 2020-12 defines it. */
export interface Schema {
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly oneOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  // Say nothing about what is valid.
  readonly $schema?: string;
  readonly $id?: string;
  readonly title?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly format?: string;
}

const silent = ["$schema", "$id", "$defs", "title", "description", "default", "format"];

type Rule = (value: unknown, schema: Schema, at: string, root: Schema) => readonly string[];

const is = (value: unknown): string =>
  Array.isArray(value) ? "array" : value === null ? "null" : Number.isInteger(value) ? "integer" : typeof value;
const fields = (value: unknown) => (is(value) === "object" ? (value as Readonly<Record<string, unknown>>) : undefined);
const say = (wrong: boolean, words: string): readonly string[] => (wrong ? [words] : []);
const passes = (value: unknown, schemas: readonly Schema[], at: string, root: Schema) =>
  schemas.filter((one) => violations(value, one, root, at).length === 0).length;

const rules: Readonly<Record<string, Rule>> = {
  $ref: (value, { $ref }, at, root) => violations(value, root.$defs![$ref!.replace("#/$defs/", "")]!, root, at),
  type: (value, { type }, at) =>
    say(is(value) !== type && !(type === "number" && is(value) === "integer"), `${at}: ${is(value)}, not ${type}`),
  const: (value, schema, at) => say(value !== schema.const, `${at}: not ${String(schema.const)}`),
  enum: (value, schema, at) => say(!schema.enum!.includes(value), `${at}: none of ${schema.enum!.join(", ")}`),
  required: (value, { required }, at) =>
    required!.flatMap((name) => say(fields(value) !== undefined && !(name in fields(value)!), `${at}: no ${name}`)),
  properties: (value, { properties }, at, root) =>
    Object.entries(properties!).flatMap(([name, inner]) =>
      fields(value)?.[name] === undefined ? [] : violations(fields(value)![name], inner, root, `${at}.${name}`),
    ),
  additionalProperties: (value, { additionalProperties, properties }, at, root) =>
    Object.entries(fields(value) ?? {})
      .filter(([name]) => !(name in (properties ?? {})))
      .flatMap(([name, inner]) =>
        typeof additionalProperties === "object"
          ? violations(inner, additionalProperties, root, `${at}.${name}`)
          : say(additionalProperties === false, `${at}: unknown ${name}`),
      ),
  items: (value, { items }, at, root) =>
    Array.isArray(value) ? value.flatMap((one, index) => violations(one, items!, root, `${at}[${index}]`)) : [],
  minItems: (value, { minItems }, at) => say(Array.isArray(value) && value.length < minItems!, `${at}: too few`),
  pattern: (value, { pattern }, at) =>
    say(
      typeof value === "string" && !new RegExp(pattern!, "u").test(value),
      `${at}: ${String(value)} is not ${pattern}`,
    ),
  minLength: (value, { minLength }, at) =>
    say(typeof value === "string" && value.length < minLength!, `${at}: too short`),
  maxLength: (value, { maxLength }, at) =>
    say(typeof value === "string" && value.length > maxLength!, `${at}: too long`),
  minimum: (value, { minimum }, at) => say(typeof value === "number" && value < minimum!, `${at}: too small`),
  maximum: (value, { maximum }, at) => say(typeof value === "number" && value > maximum!, `${at}: too large`),
  exclusiveMinimum: (value, { exclusiveMinimum }, at) =>
    say(typeof value === "number" && value <= exclusiveMinimum!, `${at}: too small`),
  oneOf: (value, { oneOf }, at, root) => {
    const count = passes(value, oneOf!, at, root);
    return say(count !== 1, `${at}: fits ${count} of ${oneOf!.length} forms, not one`);
  },
  anyOf: (value, { anyOf }, at, root) => say(passes(value, anyOf!, at, root) === 0, `${at}: fits none of the forms`),
};

/** Where `value` does not fit; empty when it does. Throws for a keyword it does not know, so that none is passed over. */
export function violations(value: unknown, schema: Schema, root: Schema = schema, at = "$"): readonly string[] {
  return Object.keys(schema).flatMap((keyword) => {
    if (silent.includes(keyword)) return [];
    const rule = rules[keyword];
    if (rule === undefined) throw new Error(`the schema has ${keyword}, which is not checked here`);
    return rule(value, schema, at, root);
  });
}

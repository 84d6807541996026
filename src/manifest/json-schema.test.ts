import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { manifestJsonSchema, manifestJsonSchemaText } from "./json-schema.ts";
import { referenceText } from "./reference.ts";
import { documents } from "./schema.ts";
import { fieldsOf } from "./schema-walk.ts";

const repository = join(import.meta.dirname, "../..");

test("the committed JSON Schema is the one the schemas make", () => {
  const committed = readFileSync(join(repository, "schema/gyre.schema.json"), "utf8");
  expect(committed, "run: node src/manifest/json-schema.ts > schema/gyre.schema.json").toBe(manifestJsonSchemaText());
});

interface Node {
  readonly description?: string;
  readonly properties?: Record<string, Node>;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly additionalProperties?: unknown;
  readonly $defs?: Record<string, Node>;
}

/** Every property of the JSON Schema by its path, written as the manifest's fields are. */
function properties(node: Node, path: string): (readonly [string, Node])[] {
  return [
    ...Object.entries(node.properties ?? {}).flatMap(([name, inner]) => {
      const here = path === "" ? name : `${path}.${name}`;
      return [[here, inner] as const, ...properties(inner, here)];
    }),
    ...(node.items ? properties(node.items, `${path}[]`) : []),
    ...(node.anyOf ?? []).flatMap((option) => properties(option, path)),
  ];
}

test.each(Object.keys(documents))("every field of %s is in it, described, and nothing else is allowed", (kind) => {
  const schema = (manifestJsonSchema() as Node).$defs![kind]!;
  const found = properties(schema, "");
  const known = fieldsOf(documents[kind as keyof typeof documents]).map((field) => field.path);
  expect(new Set(found.map(([path]) => path))).toEqual(new Set(known));
  expect(found.filter(([, node]) => !node.description).map(([path]) => path)).toEqual([]);
  const open = found.filter(([, node]) => node.properties && node.additionalProperties !== false);
  expect(open.map(([path]) => path)).toEqual([]);
});

test("docs/manifest.md has the current tables, and so every field", () => {
  const page = readFileSync(join(repository, "docs/manifest.md"), "utf8");
  const tables = /<!-- fields -->\n([\s\S]*)<!-- end of fields -->/.exec(page)?.[1];
  expect(tables, "run: node src/manifest/reference.ts, and put it between the marks").toBe(`${referenceText()}\n`);
  const fields = Object.values(documents).flatMap((schema) => fieldsOf(schema));
  const names = fields.map((field) => field.path.split(".").at(-1)!.replace("[]", ""));
  expect(names.filter((name) => !page.includes(name))).toEqual([]);
});

test("the manifest shown in docs/manifest.md is valid", async () => {
  const { checkSources } = await import("./load.ts");
  const { sourceOf } = await import("./source.ts");
  const page = readFileSync(join(repository, "docs/manifest.md"), "utf8");
  const text = /```yaml\n([\s\S]*?)```/.exec(page)![1]!;
  const checked = checkSources([sourceOf("docs.yaml", text)], { CA_PASSPHRASE: "x" });
  expect(checked.ok || checked.problems).toBe(true);
});

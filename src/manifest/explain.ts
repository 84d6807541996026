import type { z } from "zod";
import { nearest } from "./nearest.ts";
import type { RawProblem } from "./problem.ts";
import { descriptionAt, fieldsAt, ownersOf, schemaAt } from "./schema-walk.ts";
import type { Source } from "./source.ts";
import {
  at,
  fieldText,
  hide,
  type Mapping,
  namesSecret,
  type Path,
  plain,
  SECRET_KEY,
  spanAt,
  type Tree,
} from "./tree.ts";

type Issue = z.core.$ZodIssue;

/** A document that is being checked: problems are collected, unknown fields repaired so that the rest is still looked at. */
export interface Checking {
  readonly source: Source;
  readonly tree: Tree;
  readonly problems: RawProblem[];
}

/**
 * Parses the tree by the schema. An unknown field is reported, then renamed to what it most likely meant (or left
 * out), and the rest is parsed again: one run tells everything that is wrong. Undefined when anything was.
 */
export function parseBy<T>(schema: z.ZodType<T>, checking: Checking): T | undefined {
  let clean = true;
  for (;;) {
    const result = schema.safeParse(plain(checking.tree));
    if (result.success) return clean ? result.data : undefined;
    clean = false;
    const issues = result.error.issues.flatMap((issue) => flatten(issue, checking.tree));
    const unknown = issues.filter((issue) => issue.code === "unrecognized_keys");
    for (const issue of unknown) unknownFields(schema, checking, issue.path as Path, issue.keys);
    if (unknown.length > 0) continue;
    for (const issue of issues) wrongValue(schema, checking, issue);
    return undefined;
  }
}

/** Of a union only the branch that the author meant is worth telling: the one that takes this kind of value. */
function flatten(issue: Issue, tree: Tree): Issue[] {
  if (issue.code !== "invalid_union") return [issue];
  const fits = issue.errors.filter((errors) => !errors.some((e) => e.path.length === 0 && isWrongKind(e)));
  if (fits.length !== 1) return [issue];
  return fits[0]!.flatMap((inner) => flatten({ ...inner, path: [...issue.path, ...inner.path] } as Issue, tree));
}

function isWrongKind(issue: Issue): boolean {
  return issue.code === "invalid_type" || issue.code === "invalid_value";
}

/** More unknown fields than this in one mapping are one mistake, not many. */
const MANY = 20;

function unknownFields(schema: z.ZodType, checking: Checking, path: Path, keys: readonly string[]): void {
  for (const key of keys.slice(0, MANY)) unknownField(schema, checking, path, key);
  if (keys.length <= MANY) return;
  const mapping = at(checking.tree, path)?.value as Mapping;
  const first = mapping.entries.get(keys[MANY]!)!;
  checking.problems.push({
    source: checking.source,
    span: first.key,
    field: fieldText(path),
    message: `and ${keys.length - MANY} more unknown fields${path.length > 0 ? ` in ${fieldText(path)}` : ""}`,
  });
  for (const key of keys.slice(MANY)) {
    hide(mapping.entries.get(key)!.value, checking.source);
    mapping.entries.delete(key);
  }
}

function unknownField(schema: z.ZodType, checking: Checking, path: Path, key: string): void {
  const { source, tree, problems } = checking;
  const mapping = at(tree, path)?.value as Mapping;
  const entry = mapping.entries.get(key)!;
  const known = fieldsAt(schema, path);
  const free = known.filter((name) => !mapping.entries.has(name));
  const meant = nearest(key, free);
  const owner = meant === undefined ? ownersOf(schema, key)[0] : undefined;
  const advice = meant !== undefined ? `; did you mean \`${meant}\`?` : owner ? `; it belongs in ${owner}` : "";
  // Its value may be a secret under a misspelt name.
  if (meant === undefined || SECRET_KEY.test(meant)) hide(entry.value, source);
  problems.push({
    source,
    span: entry.key,
    field: fieldText(path),
    message: `unknown field \`${brief(key)}\`${path.length > 0 ? ` in ${fieldText(path)}` : ""}${advice}`,
    allowed: known.join(", "),
  });
  mapping.entries.delete(key);
  if (meant !== undefined) mapping.entries.set(meant, entry);
}

function wrongValue(schema: z.ZodType, checking: Checking, issue: Issue): void {
  const { source, tree, problems } = checking;
  const path = issue.path as Path;
  if (isBroken(tree, path)) return;
  const found = at(tree, path);
  const field = fieldText(path);
  if (!found) {
    const parent = path.slice(0, -1);
    problems.push({
      source,
      span: at(tree, parent)?.key ?? spanAt(tree, parent),
      field,
      message: `the field \`${String(path.at(-1))}\` is missing${parent.length > 0 ? ` in ${fieldText(parent)}` : ""}`,
      meaning: descriptionAt(schema, path),
    });
    return;
  }
  const saw = seen(found.value, source, path);
  const rule = textRule(schema, path, issue) ?? wanted(issue);
  problems.push({
    source,
    span: spanAt(tree, path),
    field,
    message:
      issue.code === "custom" && found.value.kind !== "scalar"
        ? `${field === "" ? "" : `${field}: `}${issue.message}`
        : `${field}: ${rule === undefined ? issue.message : `expected ${rule}`}${saw === undefined ? "" : `, saw ${saw}`}`,
  });
}

/** Where a field takes text of one form and something else stood there: that form, not just "text". */
function textRule(schema: z.ZodType, path: Path, issue: Issue): string | undefined {
  if (issue.code !== "invalid_type" || issue.expected !== "string") return undefined;
  const refused = schemaAt(schema, path)?.safeParse("\u0000").error?.issues[0];
  return refused?.code === "invalid_format" ? refused.message : undefined;
}

/** A part that has a problem of its own, or lies in one: more about it would be noise. */
export function isBroken(tree: Tree, path: Path): boolean {
  for (let length = 0; length <= path.length; length++) {
    const found = at(tree, path.slice(0, length))?.value;
    if (found?.kind === "scalar" && found.broken) return true;
  }
  return false;
}

const KINDS: Record<string, string> = {
  string: "text",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  object: "a mapping { … }",
  array: "a list [ … ]",
  record: "a mapping { … }",
};

/** What the schema wants, in words; undefined where the issue's own message says it. */
function wanted(issue: Issue): string | undefined {
  switch (issue.code) {
    case "invalid_type":
      return KINDS[issue.expected] ?? issue.expected;
    case "invalid_value":
      return issue.values.length === 1
        ? String(issue.values[0])
        : `one of ${issue.values.map((value) => String(value)).join(", ")}`;
    case "invalid_format":
      if (issue.format === "starts_with" && "prefix" in issue) return `text that starts with ${String(issue.prefix)}`;
      return issue.message;
    case "too_small":
      if (issue.message.startsWith("Too small"))
        return `${unitOf(issue.origin)} ${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`.trim();
      return issue.message;
    case "too_big":
      if (issue.message.startsWith("Too big"))
        return `${unitOf(issue.origin)} ${issue.inclusive ? "at most" : "less than"} ${issue.maximum}`.trim();
      return issue.message;
    case "invalid_union":
      return unionWanted(issue);
    case "custom":
      return issue.message;
    default:
      return undefined;
  }
}

function unitOf(origin: string): string {
  return origin === "string" ? "text with a length of" : origin === "array" ? "a list with a length of" : "";
}

function unionWanted(issue: Extract<Issue, { code: "invalid_union" }>): string {
  const kinds = issue.errors.flatMap((errors) => errors.filter((e) => e.path.length === 0).map(wanted));
  return [...new Set(kinds.filter((kind) => kind !== undefined))].join(", or ");
}

/** What stood there, safe to print: no secret, nothing from the environment, nothing long. */
function seen(value: Tree, source: Source, path: Path): string | undefined {
  if (value.kind === "mapping") return "a mapping";
  if (value.kind === "sequence") return value.items.length === 0 ? "an empty list" : "a list";
  if (value.from.length > 0) return `the value of ${value.from.join(", ")}`;
  if (value.value === null) return "no value";
  const secret = path.some(
    (part, i) => typeof part === "string" && SECRET_KEY.test(part) && !namesSecret(part, i < path.length - 1),
  );
  const masked = source.secrets.some((s) => s.from < value.span.to && s.to > value.span.from);
  if (secret || masked) return `a ${typeof value.value === "string" ? "text" : typeof value.value} (not shown)`;
  if (typeof value.value !== "string")
    return `the ${typeof value.value} ${brief(source.text.slice(value.span.from, value.span.to))}`;
  return value.value === "" ? "an empty text" : `"${brief(value.value)}"`;
}

export function brief(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

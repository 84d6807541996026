import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  type Node,
  parseAllDocuments,
  visit,
  type YAMLMap,
  type YAMLParseError,
  type YAMLWarning,
} from "yaml";
import type { RawProblem } from "./problem.ts";
import { position, type Source, type Span } from "./source.ts";

export type Path = readonly (string | number)[];
export type Environment = Readonly<Record<string, string | undefined>>;

export interface Scalar {
  readonly kind: "scalar";
  readonly span: Span;
  readonly value: string | number | boolean | null;
  /** Names of the environment variables that went into the value. */
  readonly from: readonly string[];
  /** Stands for a part that has a problem of its own already: nothing more is said about it. */
  readonly broken?: true;
}
export interface Mapping {
  readonly kind: "mapping";
  readonly span: Span;
  readonly entries: Map<string, { readonly key: Span; readonly value: Tree }>;
}
export interface Sequence {
  readonly kind: "sequence";
  readonly span: Span;
  readonly items: readonly Tree[];
}
/** A YAML document as plain data that still knows where each part stands, aliases followed, `${ENV}` filled in. */
export type Tree = Scalar | Mapping | Sequence;

export interface Parsed {
  /** One per document that is not empty and has no syntax error. */
  readonly trees: readonly Tree[];
  readonly problems: readonly RawProblem[];
  /** Values that came from the environment, to be kept out of every text. */
  readonly environment: readonly string[];
}

/** More than any manifest needs; a bomb of aliases or nesting meets it before it costs anything. */
const MAX_NODES = 50_000;
const MAX_DEPTH = 40;

/** What each syntax error of the YAML reader means. Its own messages quote the source, which may hold a secret. */
const SYNTAX: Record<string, string> = {
  ALIAS_PROPS: "an alias (*name) cannot carry an anchor or a tag",
  BAD_ALIAS: "an alias (*name) without a name, or with a colon at its end",
  BAD_DIRECTIVE: "a % line that YAML does not know",
  BAD_DQ_ESCAPE: 'a backslash sequence that does not exist inside "double quotes" (write \\\\ for a backslash)',
  BAD_INDENT: "wrong indentation, or a { or [ above that is not closed",
  BAD_PROP_ORDER: "anchor, tag and indicator in the wrong order",
  BAD_SCALAR_START: "a value cannot start with this character without quotes",
  BLOCK_AS_IMPLICIT_KEY: "a nested mapping on the same line; start it on its own line",
  BLOCK_IN_FLOW: "a block value inside { } or [ ]",
  BAD_COLLECTION_TYPE: "a tag that does not fit this kind of value",
  KEY_OVER_1024_CHARS: "a key longer than 1024 characters",
  MISSING_CHAR: "something is missing here: a closing quote, bracket, comma or colon",
  MULTILINE_IMPLICIT_KEY: "a key that runs over more than one line; is a colon or a quote missing?",
  MULTIPLE_ANCHORS: "more than one anchor on one value",
  MULTIPLE_TAGS: "more than one tag on one value",
  TAB_AS_INDENT: "a tab as indentation; YAML allows spaces only",
  TAG_RESOLVE_FAILED: "a tag (!name) that Gyre does not know",
  UNEXPECTED_TOKEN: "text that does not belong here",
};

/** Reads every document of a source. Never throws on what the text says: all of it becomes problems. */
export function parseTrees(source: Source, environment: Environment): Parsed {
  const problems: RawProblem[] = [];
  const trees: Tree[] = [];
  const used = new Set<string>();
  const reading: Reading = { source, environment, problems, used, nodes: 0, anchors: new Map(), following: 0 };
  for (const document of documents(source, problems)) {
    reading.anchors.clear();
    const errors = [...document.errors, ...document.warnings];
    for (const error of errors)
      problems.push({
        source,
        span: spanOfError(error, document),
        message: `not valid YAML: ${SYNTAX[error.code] ?? "it cannot be read here"}`,
      });
    if (errors.length > 0) maskByLine(source);
    else if (isNode(document.contents) && !(isScalar(document.contents) && document.contents.value === null))
      trees.push(treeOf(document.contents, reading, [], []));
  }
  return { trees, problems, environment: [...used] };
}

/** An open quote is found at the end of the text; where it was opened is what the author needs. */
function spanOfError(error: YAMLParseError | YAMLWarning, document: Document.Parsed): Span {
  const [from, to] = error.pos;
  if (error.code !== "MISSING_CHAR" || !error.message.includes("quote")) return { from, to: Math.max(to, from + 1) };
  let start = from;
  visit(document, {
    Scalar: (_, node) => {
      if (node.type?.startsWith("QUOTE") && node.range && node.range[0] < from) start = node.range[0];
    },
  });
  return { from: start, to: start + 1 };
}

function documents(source: Source, problems: RawProblem[]): Document.Parsed[] {
  try {
    // uniqueKeys is off because its search is quadratic; treeOf finds duplicates itself.
    const parsed = parseAllDocuments(source.text, {
      version: "1.2",
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "error",
    });
    return Array.isArray(parsed) ? (parsed as Document.Parsed[]) : [];
  } catch (error) {
    maskByLine(source);
    const deep = error instanceof RangeError;
    problems.push({
      source,
      span: { from: 0, to: 1 },
      message: deep ? "not usable YAML: nested too deeply" : "not valid YAML: it cannot be read",
    });
    return [];
  }
}

interface Reading {
  readonly source: Source;
  readonly environment: Environment;
  readonly problems: RawProblem[];
  readonly used: Set<string>;
  nodes: number;
  /** Anchors met so far in the document, the latest of each name. Looking each one up in the document is quadratic. */
  anchors: Map<string, Node>;
  /** How many aliases are being followed: what they lead to was met before. */
  following: number;
}

/** `open` holds the nodes around this one, so that an alias to itself is seen. */
function treeOf(node: Node, reading: Reading, open: readonly Node[], path: Path): Tree {
  const span = spanOf(node, reading.source);
  reading.nodes++;
  if (reading.nodes > MAX_NODES) {
    const first = reading.nodes === MAX_NODES + 1;
    return first
      ? broken(reading, span, path, "too many values in one file (an alias counts each time)")
      : nothing(span);
  }
  if (open.length > MAX_DEPTH) return broken(reading, span, path, "nested too deeply");
  if (isAlias(node)) {
    const target = reading.anchors.get(node.source);
    if (!target) return broken(reading, span, path, "an alias (*name) whose anchor (&name) does not stand before it");
    if (open.includes(target)) return broken(reading, span, path, "an alias that contains itself");
    reading.following++;
    const tree = treeOf(target, reading, open, path);
    reading.following--;
    return tree;
  }
  if (reading.following === 0 && node.anchor !== undefined) reading.anchors.set(node.anchor, node);
  const inside = [...open, node];
  if (isMap(node)) return mappingOf(node, reading, inside, path);
  if (isSeq(node)) {
    const items = node.items.map((item, i) =>
      isNode(item)
        ? treeOf(item, reading, inside, [...path, i])
        : broken(reading, span, [...path, i], "a list item that is a key with a value; put it in { }"),
    );
    return { kind: "sequence", span, items };
  }
  return isScalar(node)
    ? scalarOf(node.value, span, reading, path)
    : broken(reading, span, path, "a value of an unknown kind");
}

function nothing(span: Span): Scalar {
  return { kind: "scalar", span, value: null, from: [], broken: true };
}

function broken(reading: Reading, span: Span, path: Path, message: string, next?: string): Scalar {
  reading.problems.push({ source: reading.source, span, field: fieldText(path), message, next });
  return nothing(span);
}

function mappingOf(node: YAMLMap, reading: Reading, open: readonly Node[], path: Path): Mapping {
  const span = spanOf(node, reading.source);
  const entries: Mapping["entries"] = new Map();
  for (const pair of node.items) {
    const keyNode = isPair(pair) && isNode(pair.key) ? pair.key : undefined;
    const key = keyNode ? spanOf(keyNode, reading.source) : { from: span.from, to: span.from + 1 };
    const name = isScalar(keyNode) && keyNode.value !== null ? String(keyNode.value) : undefined;
    if (name === undefined) {
      broken(reading, key, path, "a key must be plain text");
      continue;
    }
    const known = entries.get(name);
    const value = isNode(pair.value) ? treeOf(pair.value, reading, open, [...path, name]) : nullAt(key);
    if (SECRET_KEY.test(name) && !namesSecret(name, value.kind === "mapping")) hide(value, reading.source);
    if (known) {
      const { line } = position(reading.source, known.key.from);
      broken(
        reading,
        key,
        [...path, name],
        `\`${shown(name)}\` stands here a second time; it is on line ${line} already`,
      );
    }
    // A null has no text of its own: point at its key.
    else entries.set(name, { key, value: value.span.from >= value.span.to ? { ...value, span: key } : value });
  }
  return { kind: "mapping", span, entries };
}

function nullAt(span: Span): Scalar {
  return { kind: "scalar", span, value: null, from: [] };
}

function scalarOf(value: unknown, span: Span, reading: Reading, path: Path): Scalar {
  if (typeof value === "string") {
    const filled = substitute(value, reading.environment);
    for (const text of filled.values) reading.used.add(text);
    if (filled.problem) return broken(reading, span, path, filled.problem.message, filled.problem.next);
    return { kind: "scalar", span, value: filled.text, from: filled.names };
  }
  if (typeof value === "number" || typeof value === "boolean" || value === null)
    return { kind: "scalar", span, value, from: [] };
  return broken(reading, span, path, "a value of an unknown kind");
}

interface Filled {
  readonly text: string;
  readonly names: readonly string[];
  readonly values: readonly string[];
  readonly problem?: { readonly message: string; readonly next: string };
}

/** Replaces `${NAME}`; `$${` stands for `${` itself. A lone `$` is a lone `$`. */
export function substitute(text: string, environment: Environment): Filled {
  const names: string[] = [];
  const values: string[] = [];
  let problem: Filled["problem"];
  const filled = text.replace(/\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{/g, (match, name: string | undefined) => {
    if (match === "$${") return "${";
    if (name === undefined) {
      problem ??= {
        message: "a dollar sign and `{` without a variable name and `}`",
        next: `write $\{NAME}, or $$\{ for the two characters themselves`,
      };
      return "";
    }
    const value = Object.hasOwn(environment, name) ? environment[name] : undefined;
    if (value === undefined)
      problem ??= {
        message: `the environment variable ${name} is not set`,
        next: `set ${name}, or write $$\{${name}} for the literal text`,
      };
    names.push(name);
    if (value) values.push(value);
    return value ?? "";
  });
  return { text: filled, names, values, ...(problem === undefined ? {} : { problem }) };
}

/** Field names whose values are never shown, whether the schema knows them or not. `privateKey` is a path here. */
export const SECRET_KEY = /pass|secret|token|credentials?$|^key$|pem$/i;
/** A `secret` that is a mapping names a Secret of Kubernetes: what that holds is not in the manifest. */
export const namesSecret = (name: string, isMapping: boolean): boolean => name === "secret" && isMapping;

/** Masks every scalar under `tree`; a `{ file: … }` reference is a path and stays readable. */
export function hide(tree: Tree, source: Source): void {
  if (tree.kind === "scalar") source.secrets.push(tree.span);
  else if (tree.kind === "sequence") for (const item of tree.items) hide(item, source);
  else for (const [name, { value }] of tree.entries) if (name !== "file") hide(value, source);
}

/** For text that does not parse: masks what follows a secret-sounding key, on its line and on deeper lines below. */
function maskByLine(source: Source): void {
  let deeper = -1;
  for (const [i, start] of source.lineStarts.entries()) {
    const end = source.lineStarts[i + 1] ?? source.text.length;
    const line = source.text.slice(start, end);
    const indent = line.search(/\S/);
    if (indent < 0) continue;
    const key = /(?:pass|secret|token|credential|\bkey\b|pem)[\w-]*["']?\s*:\s*/i.exec(line);
    if (deeper >= 0 && indent > deeper) source.secrets.push({ from: start + indent, to: end });
    else deeper = key ? indent : -1;
    if (key) source.secrets.push({ from: start + key.index + key[0].length, to: end });
  }
}

/** PEM private keys pasted anywhere in a file are masked, whatever field they stand in. */
export function hidePrivateKeys(source: Source): void {
  for (const match of source.text.matchAll(/-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END|$(?![\s\S]))/g))
    source.secrets.push({ from: match.index, to: match.index + match[0].length });
}

function spanOf(node: Node, source: Source): Span {
  const from = Math.min(node.range?.[0] ?? 0, source.text.length);
  return { from, to: Math.max(from, node.range?.[1] ?? from) };
}

function shown(name: string): string {
  return name.length > 40 ? `${name.slice(0, 40)}…` : name;
}

/** `spec.prove[0].tls`, as errors name a field. */
export function fieldText(path: Path): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? shown(part) : `${text}.${shown(part)}`,
    "",
  );
}

/** The data without its positions, as the schemas take it. */
export function plain(tree: Tree): unknown {
  if (tree.kind === "scalar") return tree.value;
  if (tree.kind === "sequence") return tree.items.map(plain);
  return Object.fromEntries([...tree.entries].map(([name, { value }]) => [name, plain(value)]));
}

/** The part at `path`, with its key's place; `undefined` where the document has no such part. */
export function at(tree: Tree, path: Path): { readonly key: Span; readonly value: Tree } | undefined {
  let found: { key: Span; value: Tree } = { key: tree.span, value: tree };
  for (const part of path) {
    const { value } = found;
    if (value.kind === "mapping" && typeof part === "string") {
      const entry = value.entries.get(part);
      if (!entry) return undefined;
      found = entry;
    } else if (value.kind === "sequence" && typeof part === "number") {
      const item = value.items[part];
      if (!item) return undefined;
      found = { key: item.span, value: item };
    } else return undefined;
  }
  return found;
}

/** The place of `path`, or of the nearest part around it that exists. */
export function spanAt(tree: Tree, path: Path): Span {
  for (let length = path.length; length > 0; length--) {
    const found = at(tree, path.slice(0, length));
    if (found) return length === path.length ? found.value.span : found.key;
  }
  return { from: tree.span.from, to: tree.span.from + 1 };
}

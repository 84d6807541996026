/**
 * A kubeconfig as a document: what is not ours in it (other contexts, users, plugins, comments, fields nobody told us of)
 * stays as it is. Format: Kubernetes client-go tools/clientcmd/api/v1 Config.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, parseDocument, visit, type YAMLMap } from "yaml";
import { GyreError } from "../../errors.ts";

type Fields = Readonly<Record<string, unknown>>;

export interface KubeconfigContext {
  readonly name: string;
  readonly clusterName: string;
  readonly userName: string;
  readonly cluster: Fields;
  readonly user: Fields;
}

export interface KubeconfigFile {
  readonly contextNames: readonly string[];
  readonly currentContext: string | undefined;
  /** @throws GyreError `input` where the context, its user or its cluster is not there, naming those that are. */
  context(name?: string): KubeconfigContext;
  /** The entry of that name, whether a context uses it or not. */
  entry(list: "users" | "clusters" | "contexts", name: string): Fields | undefined;
  /** Sets fields of a user or cluster entry, making the entry where it is missing; `undefined` takes the field out. */
  set(list: "users" | "clusters" | "contexts", name: string, fields: Fields): void;
  setCurrentContext(name: string): void;
  /** The whole document, comments and order as they were. */
  text(): string;
}

const inner = { users: "user", clusters: "cluster", contexts: "context" } as const;

/** @throws GyreError `input`: not YAML, or not a kubeconfig. Never quotes the document, which holds keys. */
export function readKubeconfigFile(source: string, where: string): KubeconfigFile {
  const document = parse(source, where);
  const root = document.toJS({ maxAliasCount: 100 }) as unknown;
  const bad = (message: string, next?: string) =>
    new GyreError({ code: "input", message: `kubeconfig: ${message}`, where, ...(next === undefined ? {} : { next }) });
  if (source.trim() !== "" && (!isRecord(root) || root.kind !== "Config"))
    throw bad("this is no kubeconfig: it has no `kind: Config`");
  const entries = (list: keyof typeof inner): Map<string, Fields> => {
    const found = new Map<string, Fields>();
    const current = document.toJS({ maxAliasCount: 100 }) as unknown;
    const items = isRecord(current) ? current[list] : undefined;
    for (const item of Array.isArray(items) ? items : [])
      if (isRecord(item) && typeof item.name === "string" && !found.has(item.name)) {
        const fields = item[inner[list]];
        found.set(item.name, isRecord(fields) ? fields : {});
      }
    return found;
  };
  const currentContext = () => {
    const current = document.get("current-context");
    return typeof current === "string" && current !== "" ? current : undefined;
  };
  return {
    get contextNames() {
      return [...entries("contexts").keys()];
    },
    get currentContext() {
      return currentContext();
    },
    context(wanted) {
      const contexts = entries("contexts");
      const name = wanted ?? currentContext();
      if (name === undefined) throw bad("it has no current-context", "name one in the manifest (context)");
      const context = contexts.get(name);
      if (context === undefined)
        throw bad(`it has no context ${name}; there are: ${[...contexts.keys()].join(", ") || "none"}`);
      const [clusterName, userName] = [String(context.cluster ?? ""), String(context.user ?? "")];
      const cluster = entries("clusters").get(clusterName);
      const user = entries("users").get(userName);
      if (cluster === undefined) throw bad(`context ${name} names cluster ${clusterName}, which is not there`);
      if (user === undefined) throw bad(`context ${name} names user ${userName}, which is not there`);
      return { name, clusterName, userName, cluster, user };
    },
    entry: (list, name) => entries(list).get(name),
    set(list, name, fields) {
      writeOut(document);
      const entry = entryOf(document, list, name);
      for (const [field, value] of Object.entries(fields))
        if (value === undefined) entry.delete(field);
        else entry.set(field, document.createNode(value));
    },
    setCurrentContext(name) {
      document.set("current-context", name);
    },
    text: () => textOf(document, source),
  };
}

/** In the form it came in: JSON stays JSON, and lines end as they did. */
function textOf(document: Document, source: string): string {
  if (isJson(source)) {
    const indent = source.trim().includes("\n") ? 2 : 0;
    return `${JSON.stringify(document.toJS(), undefined, indent)}${source.endsWith("\n") ? "\n" : ""}`;
  }
  // Certificates and keys are one long line each; folding them would be valid YAML that few readers expect.
  const text = document.toString({ lineWidth: 0 });
  return source.includes("\r\n") ? text.replaceAll(/\r?\n/g, "\r\n") : text;
}

function isJson(source: string): boolean {
  try {
    JSON.parse(source);
    return true;
  } catch {
    return false;
  }
}

/**
 * Entries that share their content by anchor, alias or merge key are written out before one of them is changed: the
 * others must keep what they had.
 */
function writeOut(document: Document): void {
  visit(document, {
    Alias: (_, alias) => alias.resolve(document)?.clone() as YAMLMap | undefined,
  });
  visit(document, {
    Node: (_, node) => {
      if (!isAlias(node)) delete (node as { anchor?: string }).anchor;
    },
    Map: (_, map) => {
      const merged = map.items.filter(({ key }) => isScalar(key) && key.value === "<<");
      if (merged.length === 0) return;
      map.items = map.items.filter((item) => !merged.includes(item));
      for (const { value } of merged)
        for (const source of isSeq(value) ? value.items : [value])
          for (const pair of isMap(source) ? source.items : []) if (!map.has(pair.key)) map.items.push(pair);
    },
  });
}

/** The smallest kubeconfig: to be filled with `set`. */
export const emptyKubeconfig = "apiVersion: v1\nkind: Config\nclusters: []\nusers: []\ncontexts: []\n";

function parse(source: string, where: string): Document {
  try {
    const document = parseDocument(source, {
      ...{ prettyErrors: false, logLevel: "silent", uniqueKeys: false },
      // client-go reads YAML with a library that knows merge keys (`<<`).
      merge: true,
    });
    if (document.errors.length === 0) return document;
  } catch {
    // Deep nesting and alias bombs end here.
  }
  throw new GyreError({ code: "input", message: "kubeconfig: it is not valid YAML", where });
}

function entryOf(document: Document, list: keyof typeof inner, name: string): YAMLMap {
  let items = document.get(list);
  if (!isSeq(items)) {
    document.set(list, document.createNode([]));
    items = document.get(list);
  }
  if (!isSeq(items)) throw new GyreError({ code: "bug", message: `kubeconfig: ${list} cannot be made a list` });
  // An empty list is often written `[]`; entries are written line by line.
  items.flow = false;
  let item = items.items.find((one): one is YAMLMap => isMap(one) && one.get("name") === name);
  if (item === undefined) {
    // A node made of an object is a map, which the library does not say.
    item = document.createNode({ name, [inner[list]]: {} }) as unknown as YAMLMap;
    items.add(item);
  }
  let entry = item.get(inner[list]);
  if (!isMap(entry)) {
    item.set(inner[list], document.createNode({}));
    entry = item.get(inner[list]);
  }
  const map = entry as YAMLMap;
  map.flow = false;
  return map;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** One object of a cluster: what its values hold, judged together. Private keys are read to be matched, then wiped. */
import type { Certificate } from "../../pki/certificate.ts";
import { type Item, itemsOf } from "../contents.ts";
import { type Finding, type Found, type InCluster, problem, wordsOf } from "../found.ts";
import { type Carried, looksLikeKubeconfig } from "../kubeconfig.ts";
import type { ScanOptions } from "../scan.ts";
import { anchorFindings, entryFindings, judgeItems, judgeKubeconfig, Together } from "../together.ts";
import type { Kind, Listed, Value } from "./kinds.ts";
import { ownersOf } from "./owners.ts";
import { rootCa } from "./rights.ts";
import type { Uses } from "./uses.ts";

export interface Surroundings {
  readonly options: Required<ScanOptions>;
  readonly uses: Uses;
  /** Kinds of users that could not be listed. */
  readonly usersUnseen: readonly string[];
  /** Fingerprints of the CA certificates that kube-system publishes. */
  readonly roots?: ReadonlySet<string>;
  /** Counts copies of that CA which are the same. */
  readonly sameRoots: () => void;
}

interface Read {
  readonly value: Value;
  readonly where: string;
  readonly items: readonly Item[];
  readonly kubeconfig?: Buffer;
  readonly twice: boolean;
}

/** Never throws: what cannot be read is a problem of its value. */
export function* examineObject(kind: Kind, object: Listed, around: Surroundings): Generator<Found> {
  const { namespace, name } = object.metadata;
  const path = `${kind.kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
  const owners = [...(kind.owners?.(object) ?? []), ...ownersOf(object.metadata, kind.fields)];
  const users = around.uses.of(kind.kind, namespace, name);
  const unseen = around.usersUnseen.length > 0 && kind.namespaced ? { usersUnseen: around.usersUnseen } : {};
  const whose = (key: string): InCluster => ({
    ...{ kind: kind.kind, ...(namespace === undefined ? {} : { namespace }), name, key },
    ...(object.type === undefined ? {} : { type: object.type }),
    ...{ owners, users, ...unseen },
  });
  try {
    if (kind.insecure?.(object) === true)
      yield {
        ...{ what: "setting", where: `${path}/insecureSkipTLSVerify`, object: whose("insecureSkipTLSVerify") },
        message: "any server is taken for it",
        findings: [{ severity: "warning", code: "insecure", message: "no certificate is checked: give it a caBundle" }],
      };
    for (const found of examineValues(kind, object, path, around)) {
      const key = found.where.slice(path.length + 1).replace(/(:\d+|#.*)$/, "");
      yield { ...found, object: whose(key) };
    }
  } catch (error) {
    yield { ...problem(path, wordsOf(error)), object: whose("") };
  }
}

function* examineValues(kind: Kind, object: Listed, path: string, around: Surroundings): Generator<Found> {
  const together = new Together(around.options);
  const read: Read[] = [];
  for (const value of kind.values(object)) {
    const where = `${path}/${value.key}`;
    if (value.bytes.length > 0) read.push(readValue(value, where));
    else if (object.type === "kubernetes.io/tls" && value.key === "tls.crt") yield problem(where, "empty: not issued");
  }
  // Keys come first, so that certificates are judged beside them.
  const holdsKey = ({ items }: Read) => items.some(({ is }) => is === "key");
  for (const one of [...read.filter(holdsKey), ...read.filter((each) => !holdsKey(each))]) {
    const root = rootFindings(kind, object, one, around);
    if (root === "same") continue;
    const extra = (certificate: Certificate): readonly Finding[] => [
      ...(one.value.anchor === true ? anchorFindings(certificate) : []),
      ...(one.twice ? [twice] : []),
      ...root,
    ];
    yield* judgeItems(one.items, one.where, undefined, together, extra);
    if (one.kubeconfig !== undefined)
      yield* judgeKubeconfig(one.kubeconfig, one.where, (carried) => judgeEntry(carried, around.options));
  }
  yield* together.keys();
}

const twice: Finding = {
  ...{ severity: "warning", code: "base64-twice" },
  message: "it is in base64 twice: whoever mounts it sees no PEM",
};

function readValue(value: Value, where: string): Read {
  const inner = value.bytes.subarray(0, 14).toString("latin1") === "LS0tLS1CRUdJTi" ? value.bytes : undefined;
  const bytes = unescaped(inner === undefined ? value.bytes : Buffer.from(inner.toString("latin1"), "base64"));
  try {
    if (looksLikeKubeconfig(bytes)) return { value, where, items: [], kubeconfig: Buffer.from(bytes), twice: false };
    return { value, where, items: itemsOf(bytes, where), twice: inner !== undefined };
  } finally {
    bytes.fill(0);
    value.bytes.fill(0);
  }
}

/** PEM inside JSON has its ends of lines as `\n`, as in the key files of cloud accounts. */
function unescaped(bytes: Buffer): Buffer {
  if (!bytes.includes("-----\\n")) return bytes;
  const text = Buffer.from(
    bytes
      .toString("latin1")
      .replaceAll(/\\r\\n|\\n/g, "\n")
      .replaceAll(/"|,$/gm, "\n"),
    "latin1",
  );
  bytes.fill(0);
  return text;
}

/** A user's certificate with its key, or a cluster's CA. Files that a kubeconfig names are those of its pod. */
function* judgeEntry(carried: readonly Carried[], options: Required<ScanOptions>): Generator<Found> {
  const entry = new Together(options);
  const items: Item[] = [];
  for (const { where, field, data } of carried) {
    if (data === undefined) continue;
    const inside = itemsOf(data, where);
    data.fill(0);
    if (inside.length === 0) yield problem(where, `${field} holds no PEM`);
    items.push(...inside.map((item) => ({ ...item, where })));
  }
  yield* judgeItems(items, carried[0]!.where, undefined, entry, entryFindings(carried));
  yield* entry.keys();
}

/** Copies of the cluster's CA, which the controller manager keeps in every namespace and service account token. */
function rootFindings(kind: Kind, object: Listed, one: Read, around: Surroundings): readonly Finding[] | "same" {
  const { namespace, name } = object.metadata;
  const isCopy =
    (kind.kind === "ConfigMap" && name === rootCa.name && namespace !== rootCa.namespace) ||
    (kind.kind === "Secret" && object.type === "kubernetes.io/service-account-token");
  if (!isCopy || one.value.key !== "ca.crt" || around.roots === undefined) return [];
  const held = one.items.map((item) => (item.is === "certificate" ? item.certificate.fingerprint : item.is));
  if (held.length === around.roots.size && held.every((each) => around.roots!.has(each))) {
    around.sameRoots();
    return "same";
  }
  const message = "not the CA that kube-system publishes: its pods trust another, or not all of it";
  return [{ severity: "error", code: "root-ca-differs", message }];
}

/**
 * What really is in a Kubernetes estate, told by kubectl, curl and openssl: at each API server whom the old and the new
 * are taken for and what they may, and whether the delivered kubeconfig works as it stands.
 */
import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { goTool } from "../../../lab/go-tools.ts";
import { fingerprintOf } from "../../../lab/pki.ts";
import { request } from "../../../lab/witness.ts";
import type { ExtraLook, Reality, Trouble } from "../reality.ts";
import type { ClusterEstate } from "./estate.ts";

const serverName = "kubernetes.default.svc";

/** kubectl with this kubeconfig at one API server's own address. */
export const kubectlWith = (kubeconfig: string, address?: string): string[] => [
  ...[goTool("kubectl"), "--kubeconfig", kubeconfig, "--request-timeout", "0"],
  ...(address === undefined ? [] : ["--server", `https://${address}`, "--tls-server-name", serverName]),
];

interface Pair {
  readonly certificate: string;
  readonly privateKey: string;
  readonly fingerprint: string;
  readonly kubeconfig: string;
}

type Judgement = "allowed" | "denied" | "refused" | "no answer";

interface Seen {
  readonly name: string;
  readonly old: Judgement;
  readonly fresh: Judgement;
}

export async function lookAtCluster(estate: ClusterEstate, extra: readonly ExtraLook[]): Promise<Reality> {
  const old = (await pairOf(estate, estate.kept, "old"))!;
  const stored = await pairOf(estate, estate.kubeconfig, "stored");
  const fresh = stored?.fingerprint === old.fingerprint ? undefined : stored;
  const seen = await Promise.all(
    estate.cluster.apiServers.map(async ({ name, address }): Promise<Seen> => {
      const [before, after] = await Promise.all([judge(address, old), fresh && judge(address, fresh)]);
      return { name: name.replace(/^prod-/, ""), old: before, fresh: after ?? "no answer" };
    }),
  );
  const works = await run([...kubectlWith(estate.kubeconfig), "get", "namespaces", "-o", "name"]);
  const troubles: Trouble[] = [
    ...(fresh === undefined ? [{ at: "the kubeconfig", what: "holds the old one" }] : []),
    ...(works.code === 0
      ? []
      : [{ at: "the kubeconfig", what: `does not work (${works.err.trim().split("\n").at(-1)})` }]),
    ...seen.flatMap((one) => troublesOf(one, fresh !== undefined)),
  ];
  for (const look of extra) {
    const trouble = await look();
    if (trouble !== undefined) troubles.push(trouble);
  }
  const asBefore = fresh === undefined && works.code === 0 && seen.every((one) => one.old === "allowed");
  return { done: troubles.length === 0, asBefore, troubles, words: wordsOf(seen, troubles) };
}

/** The pair of a kubeconfig as files, read by kubectl. */
async function pairOf(estate: ClusterEstate, kubeconfig: string, name: string): Promise<Pair | undefined> {
  if (!existsSync(kubeconfig)) return undefined;
  const [certificate, privateKey] = [estate.workspace.path(`${name}.pem`), estate.workspace.path(`${name}.key`)];
  for (const [field, file] of [
    ["client-certificate-data", certificate],
    ["client-key-data", privateKey],
  ] as const) {
    const view = ["config", "view", "--raw", "-o", `jsonpath={.users[0].user.${field}}`];
    const { out } = await run([...kubectlWith(kubeconfig), ...view]);
    writeFileSync(file, Buffer.from(out, "base64"), { mode: 0o600 });
  }
  // One of the witness's own: what the delivered document says of the cluster is another question.
  const own = estate.cluster.writeKubeconfig(`witness-${estate.workspace.name}-${name}`, {
    ...{ name, certificate, privateKey, chain: certificate, serial: "", fingerprint: "" },
  });
  return { certificate, privateKey, fingerprint: fingerprintOf(certificate), kubeconfig: own };
}

/** Allowed only where the API server names this very certificate. */
async function judge(address: string, pair: Pair): Promise<Judgement> {
  const path = "/api/v1/secrets?limit=1";
  const { certificate, privateKey } = pair;
  const answer = await request(address, { certificate, privateKey, name: serverName, path, timeout: 5 });
  if (answer.saw !== "reply") return "no answer";
  if (answer.status === 401) return "refused";
  if (answer.status !== 200 && answer.status !== 403) return "no answer";
  const who = await run([...kubectlWith(pair.kubeconfig, address), "auth", "whoami", "-o", "json"]);
  if (!who.out.includes(`X509SHA256=${pair.fingerprint}`)) return "no answer";
  return answer.status === 200 ? "allowed" : "denied";
}

function troublesOf({ name: at, old, fresh }: Seen, issued: boolean): Trouble[] {
  const troubles: Trouble[] = [];
  if (old === "allowed") troubles.push({ at, what: "allows the old one" });
  if (issued && (fresh === "denied" || fresh === "refused"))
    troubles.push({ at, what: `${fresh === "denied" ? "denies" : "refuses"} the new one` });
  if (old === "no answer" || (issued && fresh === "no answer")) troubles.push({ at, what: "gives no clear answer" });
  return troubles;
}

function wordsOf(seen: readonly Seen[], troubles: readonly Trouble[]): string {
  const count = (which: (one: Seen) => boolean) => `${seen.filter(which).length}/${seen.length}`;
  const apart = troubles.filter(({ what }) => troubles.filter((other) => other.what === what).length < seen.length);
  return [
    `${count((one) => one.fresh === "allowed")} allow the new one`,
    `${count((one) => one.old === "denied" || one.old === "refused")} deny the old one`,
    ...apart.map(({ at, what }) => `${at} ${what}`),
  ].join("; ");
}

function run(command: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  const [program = "", ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], timeout: 15_000 });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      out += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      err += chunk;
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
}

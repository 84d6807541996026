/** For tests on real peers: a workspace that ends with the file's tests, and a small PKI in every state. */
import { copyFileSync, renameSync } from "node:fs";
import { afterAll, afterEach, expect } from "vitest";
import { makeWorkspace, processesOf, type Supervised, type Workspace, waitFor } from "./estate.ts";
import { type Authority, bundle, issue, makeAuthority, makeCrl, type Pair, revoke } from "./pki.ts";
import { accepts, servedFingerprint } from "./witness.ts";

/** One workspace for the tests of this file; kept when one of them failed. */
export function useWorkspace(name: string): Workspace {
  const workspace = makeWorkspace(name);
  let failed = false;
  afterEach(({ task }) => {
    if (task.result?.state === "fail") failed = true;
  });
  afterAll(() => workspace.end({ failed }));
  return workspace;
}

export interface TestPki {
  readonly root: Authority;
  readonly server: Pair;
  /** A second server certificate of the same name: the next generation. */
  readonly nextServer: Pair;
  readonly client: Pair;
  readonly nextClient: Pair;
  readonly revoked: Pair;
  readonly expired: Pair;
  /** Of a CA nobody trusts. */
  readonly stranger: Pair;
  readonly crl: string;
}

export function makeTestPki(workspace: Workspace): TestPki {
  const dir = workspace.folder("pki");
  const root = makeAuthority(dir, { name: "root" });
  const client = (name: string) => issue(root, { name, usages: ["client"] });
  const revoked = client("revoked");
  revoke(root, revoked);
  const hour = 3_600_000;
  const expired = { notBefore: new Date(Date.now() - 2 * hour), notAfter: new Date(Date.now() - hour) };
  return {
    root,
    server: issue(root, { name: "server" }),
    nextServer: issue(root, { name: "next-server" }),
    client: client("client"),
    nextClient: client("next-client"),
    revoked,
    expired: issue(root, { name: "expired", usages: ["client"], ...expired }),
    stranger: issue(makeAuthority(dir, { name: "other" }), { name: "stranger", usages: ["client"] }),
    crl: makeCrl(root, workspace.path("pki", "crl.pem")),
  };
}

/** Live files a peer reads, replaced by rename as a careful deployer does: key, certificate, HAProxy's combined file. */
export function liveFiles(workspace: Workspace, name: string) {
  const dir = workspace.folder(name);
  const replace = (from: string, to: string) => {
    copyFileSync(from, `${to}.new`);
    renameSync(`${to}.new`, to);
    return to;
  };
  const files = {
    certificate: `${dir}/server.pem`,
    privateKey: `${dir}/server.key`,
    combined: `${dir}/combined.pem`,
    crl: `${dir}/crl.pem`,
    clientCa: `${dir}/ca.pem`,
  };
  return {
    ...files,
    dir,
    putServer(pair: Pair) {
      replace(pair.privateKey, files.privateKey);
      replace(pair.chain, files.certificate);
      replace(bundle(`${dir}/both`, pair.chain, pair.privateKey), files.combined);
    },
    putCrl: (crl: string) => replace(crl, files.crl),
    putClientCa: (pem: string) => replace(pem, files.clientCa),
  };
}

/** Waits until the witness sees this certificate there. */
export function untilServed(address: string, pair: Pair): Promise<unknown> {
  return waitFor(`${address} to present ${pair.name}`, async () => {
    return (await servedFingerprint(address)) === pair.fingerprint;
  });
}

/** What the witness sees, in one word: an HTTP status, an alert's name, or `nothing`. */
export async function verdict(address: string, pair: Pair | undefined, tls: "1.2" | "1.3" = "1.3"): Promise<string> {
  const answer = await accepts(address, pair?.chain, pair?.privateKey, { tls });
  return answer.saw === "reply" ? String(answer.status) : answer.saw === "alert" ? answer.alert : "nothing";
}

/** Waits until the witness sees that verdict. */
export function untilVerdict(address: string, pair: Pair, wanted: string): Promise<unknown> {
  return waitFor(`${wanted} for ${pair.name} at ${address}`, async () => (await verdict(address, pair)) === wanted);
}

/** Stops a peer and shows that none of its processes is left and its port is closed. */
export async function expectStops(peer: {
  readonly process: Supervised;
  readonly address: string;
  stop(): Promise<void>;
}): Promise<void> {
  const { process } = peer;
  expect(processesOf(process).length).toBeGreaterThan(0);
  await peer.stop();
  expect(processesOf(process)).toEqual([]);
  expect(await servedFingerprint(peer.address)).toBeUndefined();
}

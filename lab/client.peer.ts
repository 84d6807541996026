import { randomBytes } from "node:crypto";
import { copyFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Client, type ClientOptions, startClient, type Use } from "./clients/client.ts";
import { waitFor } from "./estate.ts";
import { startNginx } from "./peers/nginx.ts";
import { normalSerial, type Pair } from "./pki.ts";
import { makeTestPki, useWorkspace, verdict } from "./testing.ts";

const workspace = useWorkspace("client");
const pki = makeTestPki(workspace);

/** Files of a client, changed from one generation to the next. */
function files(name: string) {
  const certificate = workspace.path(`${name}.pem`);
  const privateKey = workspace.path(`${name}.key`);
  const put = (pair: Pair) => {
    copyFileSync(pair.privateKey, privateKey);
    copyFileSync(pair.chain, certificate);
  };
  put(pki.client);
  return { certificate, privateKey, put };
}

const uses = (client: Client, fits: (use: Use) => boolean, count = 3) =>
  waitFor("such uses", () => {
    const found = client.uses().filter(fits);
    return found.length >= count ? found : undefined;
  });
const named = (pair: Pair) => (use: Use) => normalSerial(use.serial ?? "") === pair.serial;

async function setUp(name: string, options: Partial<ClientOptions> = {}) {
  writeFileSync(workspace.path(`${name}.ticket`), randomBytes(80));
  const nginx = await startNginx(workspace, {
    ...{ name: `${name}-nginx`, certificate: pki.server.chain, privateKey: pki.server.privateKey },
    ...{ clientCa: pki.root.certificate, tickets: { keyFile: workspace.path(`${name}.ticket`) } },
  });
  const material = files(name);
  const { certificate, privateKey } = material;
  const client = await startClient(workspace, {
    ...{ name, address: nginx.address, certificate, privateKey, roots: pki.root.certificate, every: 20 },
    ...options,
  });
  await uses(client, named(pki.client));
  return { nginx, client, material };
}

describe("a client", () => {
  it("pooled: keeps the old identity on its open connection, whatever its files say", async () => {
    const { nginx, client, material } = await setUp("pooled", { hold: "pooled", reread: true });
    material.put(pki.nextClient);
    await verdict(nginx.address, pki.nextClient);
    const before = client.uses().length;
    await waitFor("five more uses", () => client.uses().length > before + 5);
    expect(client.uses().every(named(pki.client))).toBe(true);
    expect(client.uses().at(-1)).toMatchObject({ status: 200, pooled: true });
    await nginx.stop();
    await nginx.start();
    await uses(client, named(pki.nextClient));
    await client.stop();
    await nginx.stop();
  });

  it("resume: keeps the old identity over new connections by its session", async () => {
    const { nginx, client, material } = await setUp("resume", { hold: "resume", reread: true });
    await uses(client, (use) => use.reused === true);
    material.put(pki.nextClient);
    const before = client.uses().length;
    await waitFor("five more uses", () => client.uses().length > before + 5);
    expect(client.uses().at(-1)).toMatchObject({ status: 200, reused: true, pooled: false });
    expect(named(pki.client)(client.uses().at(-1)!)).toBe(true);
    await client.stop();
    await nginx.stop();
  });

  it("fresh: takes up new files when it rereads, or when told", async () => {
    const { nginx, client, material } = await setUp("fresh", { reread: true });
    material.put(pki.nextClient);
    const seen = await uses(client, named(pki.nextClient));
    expect(seen[0]).toMatchObject({ status: 200, reused: false, pooled: false });
    await client.stop();
    await nginx.stop();

    const told = await setUp("told");
    told.material.put(pki.nextClient);
    const before = told.client.uses().length;
    await waitFor("five more uses", () => told.client.uses().length > before + 5);
    expect(told.client.uses().every(named(pki.client))).toBe(true);
    told.client.reload();
    await uses(told.client, named(pki.nextClient));
    await told.client.stop();
    await told.nginx.stop();
  });

  it("notes that it got no answer", async () => {
    const { nginx, client } = await setUp("away");
    await nginx.stop();
    await uses(client, (use) => use.error === "ECONNREFUSED");
    await client.stop();
  });
});

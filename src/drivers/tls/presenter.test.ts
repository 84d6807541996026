import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type TlsOptions } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Names } from "./members.ts";
import { createTlsPresenter } from "./presenter.ts";
import { presenterSettings } from "./settings.ts";
import {
  bundleOf,
  type Leaf,
  listening,
  makeIntermediate,
  makeLeaf,
  makeRoot,
  memberAt,
  step,
  type TestAuthority,
} from "./testing.ts";

let root: TestAuthority;
let issuing: TestAuthority;
/** Same name as `issuing`, another key: the wrong intermediate. */
let twin: TestAuthority;
let server: Leaf;
let expired: Leaf;
const open: Server[] = [];
const dir = mkdtempSync(join(tmpdir(), "gyre-presenter-"));
beforeAll(async () => {
  root = await makeRoot();
  issuing = await makeIntermediate(root);
  twin = await makeIntermediate(root);
  server = await makeLeaf(issuing, "shop.example");
  expired = await makeLeaf(issuing, "shop.example", { notAfter: Date.now() - 60_000 });
});
afterAll(() => {
  for (const one of open) one.close();
  rmSync(dir, { recursive: true });
});
async function serve(options: TlsOptions): Promise<string> {
  const listener = createServer(options, (socket) => socket.on("error", () => {}).resume());
  listener.on("tlsClientError", () => {});
  open.push(listener);
  return listening(listener);
}
const presenter = (address: string, serverName = "shop.example", roots?: string) =>
  createTlsPresenter(
    presenterSettings.parse({ addresses: [address], serverName, ...(roots === undefined ? {} : { roots }) }),
    { baseDir: dir },
  );
const present = (address: string, serverName?: string, roots = root.certificate.pem) =>
  presenter(address, serverName).probe(memberAt(address), roots, step());

describe("a presented chain", () => {
  it("is good when it leads to the roots and carries the name", async () => {
    const result = await present(await serve({ cert: bundleOf(server.parsed, issuing.certificate), key: server.key }));
    expect(result).toMatchObject({ saw: "presented", chain: [server.fingerprint, issuing.certificate.fingerprint] });
    expect(result).not.toHaveProperty("problem");
    expect(result.detail).toMatchObject({ protocol: "TLSv1.3", resumed: false });
  });

  it.each([
    ["the intermediate is missing", () => bundleOf(server.parsed), /issuer.*neither in the chain nor trusted/],
    ["the intermediate is another one", () => bundleOf(server.parsed, twin.certificate), /did not sign it/],
    [
      "the intermediate has another name",
      () => bundleOf(server.parsed, root.certificate),
      /neither in the chain nor trusted/,
    ],
  ])("has a problem when %s", async (_, chain, problem) => {
    const result = await present(await serve({ cert: chain(), key: server.key }));
    expect(result).toMatchObject({ saw: "presented", problem: expect.stringMatching(problem) });
    expect(result.saw === "presented" && result.chain[0]).toBe(server.fingerprint);
  });

  it("has a problem when the name, the root or the date is wrong", async () => {
    const address = await serve({ cert: bundleOf(server.parsed, issuing.certificate), key: server.key });
    expect(await present(address, "other.example")).toMatchObject({ problem: expect.stringMatching(/does not cover/) });
    const stranger = await makeRoot("CN=somebody");
    expect(await present(address, "shop.example", stranger.certificate.pem)).toHaveProperty("problem");
    const late = await serve({ cert: bundleOf(expired.parsed, issuing.certificate), key: expired.key });
    expect(await present(late)).toMatchObject({
      chain: [expired.fingerprint, issuing.certificate.fingerprint],
      problem: expect.stringMatching(/it ends/),
    });
  });

  it("is judged anew when a date passes, though nothing else changed", async () => {
    const address = await serve({ cert: bundleOf(server.parsed, issuing.certificate), key: server.key });
    let now = Date.now();
    const settings = presenterSettings.parse({ addresses: [address], serverName: "shop.example" });
    const one = createTlsPresenter(settings, { now: () => now });
    const problem = async () => {
      const result = await one.probe(memberAt(address), root.certificate.pem, step());
      return result.saw === "presented" ? (result.problem ?? "none") : result.saw;
    };
    expect(await problem()).toBe("none");
    now = server.notAfter + 999;
    expect(await problem()).toBe("none");
    now = server.notAfter + 1_000;
    expect(await problem()).toMatch(/it ends/);
    now = server.parsed.notBefore - 1;
    expect(await problem()).toMatch(/it begins/);
    now = server.parsed.notBefore;
    expect(await problem()).toBe("none");
  });

  it("is not judged when no roots are given, and by the roots of the settings when they are", async () => {
    const address = await serve({ cert: bundleOf(server.parsed), key: server.key });
    expect(await present(address, "shop.example", "")).not.toHaveProperty("problem");
    writeFileSync(join(dir, "roots.pem"), bundleOf(root.certificate, issuing.certificate));
    const own = presenter(address, "shop.example", "roots.pem");
    expect(await own.probe(memberAt(address), root.certificate.pem, step())).not.toHaveProperty("problem");
    const missing = presenter(address, "shop.example", "no-such.pem");
    await expect(missing.probe(memberAt(address), "", step())).rejects.toMatchObject({ code: "input" });
  });

  it.each(["TLSv1.2", "TLSv1.3"] as const)(
    "is seen although %s refuses us for lack of a client certificate",
    async (version) => {
      const address = await serve({
        ...{ cert: bundleOf(server.parsed, issuing.certificate), key: server.key },
        ...{
          minVersion: version,
          maxVersion: version,
          ca: root.certificate.pem,
          requestCert: true,
          rejectUnauthorized: true,
        },
      });
      const result = await present(address);
      expect(result).toMatchObject({ saw: "presented", chain: [server.fingerprint, issuing.certificate.fingerprint] });
      expect(result).not.toHaveProperty("problem");
    },
  );

  it("is unknown where nobody listens", async () => {
    const address = await serve({ cert: server.certificate, key: server.key });
    await new Promise((resolve) => open.pop()!.close(resolve));
    expect(await present(address)).toMatchObject({ saw: "unknown", why: "connection refused" });
  });
});

describe("members", () => {
  const names = (system: string[], a: string[] | string, aaaa: string[] | string): Names => {
    const answer = (records: string[] | string) => async () => {
      if (typeof records !== "string") return records;
      throw Object.assign(new Error(records), { code: records });
    };
    return { system: answer(system.length === 0 ? "ENOTFOUND" : system), a: answer(a), aaaa: answer(aaaa) };
  };
  const resolved = (from: Names, replicas?: number) => {
    const settings = {
      resolve: "shop.example:443",
      serverName: "shop.example",
      ...(replicas === undefined ? {} : { replicas }),
    };
    return createTlsPresenter(presenterSettings.parse(settings), { names: from }).members();
  };

  it("are the listed addresses", async () => {
    const settings = presenterSettings.parse({
      addresses: ["10.0.0.1:443", "[::1]:8443"],
      serverName: "x",
      replicas: 2,
    });
    expect(await createTlsPresenter(settings).members()).toEqual([memberAt("10.0.0.1:443"), memberAt("[::1]:8443")]);
  });
  it("are every A and AAAA record, also what getaddrinfo left out", async () => {
    const all = await resolved(names(["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["fd00::1"]), 3);
    expect(all.map((one) => one.address)).toEqual(["10.0.0.1:443", "10.0.0.2:443", "[fd00::1]:443"]);
    expect(await resolved(names(["127.0.0.1"], "ECONNREFUSED", "ECONNREFUSED"))).toEqual([memberAt("127.0.0.1:443")]);
    expect(await resolved(names(["10.0.0.1"], ["10.0.0.1"], "ENODATA"))).toHaveLength(1);
  });
  it("throw when the second source counts another number", async () => {
    await expect(resolved(names(["10.0.0.1", "10.0.0.2"], "ENODATA", "ENODATA"), 3)).rejects.toMatchObject({
      ...{ code: "unreachable", message: expect.stringMatching(/3 replicas expected, 2 addresses found/) },
    });
  });
  it("throw when a part of the answer is missing, or all of it", async () => {
    await expect(resolved(names(["10.0.0.1"], ["10.0.0.1"], "ESERVFAIL"))).rejects.toMatchObject({
      code: "unreachable",
    });
    await expect(resolved(names([], "ENOTFOUND", "ENOTFOUND"))).rejects.toMatchObject({ code: "unreachable" });
  });
});

import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { bundle, issue, makeAuthority, makeCrl, makeKeystore, openssl, revoke } from "./pki.ts";
import { useWorkspace } from "./testing.ts";
import { fileDigest, request } from "./witness.ts";

const workspace = useWorkspace("pki");
const root = makeAuthority(workspace.dir, { name: "root" });
const sub = makeAuthority(workspace.dir, { name: "sub", parent: root, key: "P-384" });

const verify = (...args: string[]) => {
  const run = spawnSync("openssl", ["verify", "-x509_strict", "-CAfile", root.certificate, ...args], {
    encoding: "utf8",
  });
  return run.status === 0 ? "OK" : (/error \d+ at \d+ depth lookup: (.*)/.exec(run.stderr)?.[1] ?? run.stderr);
};

describe("the openssl PKI", () => {
  it.each(["P-256", "P-384", "Ed25519", "RSA-2048"] as const)(
    "makes %s leaves that openssl accepts for their purpose",
    (key) => {
      const leaf = issue(sub, {
        name: `leaf-${key}`,
        key,
        names: ["DNS:a.example", "IP:127.0.0.1", "URI:spiffe://lab/a"],
      });
      expect(verify("-untrusted", sub.certificate, "-purpose", "sslserver", leaf.certificate)).toBe("OK");
      expect(verify("-untrusted", sub.certificate, "-purpose", "sslclient", leaf.certificate)).toBe(
        "unsuitable certificate purpose",
      );
      expect(verify(leaf.certificate)).toBe("unable to get local issuer certificate");
      const names = openssl(["x509", "-noout", "-ext", "subjectAltName", "-in", leaf.certificate]);
      expect(names).toContain("DNS:a.example, IP Address:127.0.0.1, URI:spiffe://lab/a");
      expect(leaf.serial).toMatch(/^[1-9a-f][0-9a-f]+$/);
      expect(leaf.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    },
  );

  it("makes client leaves that are no server leaves", () => {
    const leaf = issue(root, { name: "client", usages: ["client"] });
    expect(verify("-purpose", "sslclient", leaf.certificate)).toBe("OK");
    expect(verify("-purpose", "sslserver", leaf.certificate)).toBe("unsuitable certificate purpose");
  });

  it("makes expired, future and revoked ones, and CRLs that say so", () => {
    const hour = 3_600_000;
    const at = (hours: number) => new Date(Date.now() + hours * hour);
    const expired = issue(root, { name: "expired", notBefore: at(-2), notAfter: at(-1) });
    const future = issue(root, { name: "future", notBefore: at(1), notAfter: at(2) });
    const revoked = issue(root, { name: "revoked" });
    const good = issue(root, { name: "good" });
    revoke(root, revoked);
    const crl = makeCrl(root, workspace.path("crl.pem"));
    const old = makeCrl(root, workspace.path("old.pem"), { thisUpdate: at(-2), nextUpdate: at(-1) });
    expect(verify(expired.certificate)).toBe("certificate has expired");
    expect(verify(future.certificate)).toBe("certificate is not yet valid");
    const checked = (list: string, path: string) => verify("-crl_check", "-CRLfile", list, path);
    expect(checked(crl, revoked.certificate)).toBe("certificate revoked");
    expect(checked(crl, good.certificate)).toBe("OK");
    expect(checked(old, good.certificate)).toBe("CRL has expired");
    const number = (path: string) => openssl(["crl", "-noout", "-crlnumber", "-in", path]).trim();
    expect([number(crl), number(old)]).toEqual(["crlNumber=0x01", "crlNumber=0x02"]);
  });

  it("makes key stores and bundles", async () => {
    const leaf = issue(sub, { name: "stored" });
    const store = makeKeystore(leaf, workspace.path("store.p12"), "secret words");
    const inside = openssl(["pkcs12", "-in", store, "-passin", "pass:secret words", "-nodes"]);
    expect(inside.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
    expect(inside).toContain("BEGIN PRIVATE KEY");
    const both = bundle(workspace.path("both.pem"), root.certificate, sub.certificate);
    expect(await fileDigest(both)).toMatch(/^[0-9a-f]{64}$/);
    expect(await fileDigest(workspace.path("none"))).toBeUndefined();
  });
});

describe("the witness", () => {
  it("sees nothing where nobody listens", async () => {
    expect(await request("127.0.0.1:1")).toMatchObject({ saw: "nothing" });
  });
});

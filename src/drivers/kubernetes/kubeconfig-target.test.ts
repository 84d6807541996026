import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { GyreError } from "../../errors.ts";
import { codeOf, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf, targetConformance } from "../conformance/target.ts";
import { FakeCluster } from "./fake-cluster.ts";
import { kubeconfigSettings } from "./kubeconfig-settings.ts";
import { createKubeconfigTarget } from "./kubeconfig-target.ts";

const ca = await testCa();
const old = await testMaterial(ca, "old.example");
const stranger = await testCa("stranger");
const b64 = (text: string) => Buffer.from(text).toString("base64");
const keyText = (of: typeof old) => of.privateKey!.use((bytes) => bytes.toString());
const server = "https://10.0.0.1:6443";

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "gyre-kubeconfig-"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function rig(more: object = {}) {
  const cluster = new FakeCluster(ca.root.pem);
  const file = join(home, "config");
  const open = () =>
    createKubeconfigTarget(kubeconfigSettings.parse({ file, cluster: "prod", ...more }), {
      baseDir: home,
      cluster: () => cluster,
    });
  const text = () => readFileSync(file, "utf8");
  return { cluster, file, open, text, write: (content: string) => writeFileSync(file, content, { mode: 0o640 }) };
}

const user = `client-certificate-data: ${b64(old.certificate)}, client-key-data: ${b64(keyText(old))}`;
const plain = `# whose: the night shift
apiVersion: v1
kind: Config
current-context: prod
preferences: { colors: true }   # kept
clusters:
  - name: prod
    cluster: { server: ${server}, certificate-authority-data: ${b64(ca.root.pem)}, future-field: 7 }
  - name: staging
    cluster: { server: https://10.9.9.9:6443, insecure-skip-tls-verify: true }
users:
  - name: admin # the one
    user: { ${user} }
  - name: dev
    user: { exec: { apiVersion: client.authentication.k8s.io/v1, command: login, args: [--x] } }
contexts:
  - { name: prod, context: { cluster: prod, user: admin, namespace: shop } }
  - { name: staging, context: { cluster: staging, user: dev } }
`;

/** One document in many forms, and what must still be in it, by text, once another pair was delivered into it. */
const corpus: [string, string, RegExp[]][] = [
  [
    "comments, several contexts, a plugin, unknown fields",
    plain,
    [/^# whose: the night shift/, /# kept/, /# the one/, /future-field: 7/, /insecure-skip-tls-verify: true/],
  ],
  ["CRLF", plain.replaceAll("\n", "\r\n"), [/^# whose: the night shift\r\n/, /# the one\r\n/]],
  ["JSON", JSON.stringify(parse(plain)), [/^\{"apiVersion":"v1"/, /\}$/]],
  ["JSON over lines", `${JSON.stringify(parse(plain), undefined, 2)}\n`, [/^\{\n {2}"apiVersion": "v1"/, /\}\n$/]],
  ["no newline at its end", plain.trimEnd(), [/# kept/]],
  ["lists not indented", plain.replaceAll(/^ {2}(.*)$/gm, "$1"), [/# kept/]],
  [
    "an anchor that two users share",
    plain
      .replace(`user: { ${user} }`, `user: &shared { ${user} }`)
      .replace("users:\n", "users:\n")
      .replace("contexts:\n", `  - name: twin\n    user: *shared\ncontexts:\n`),
    [/# kept/],
  ],
  [
    "a merge key",
    plain.replace(
      `user: { ${user} }`,
      `user:\n      <<: &base { client-key-data: ${b64(keyText(old))}, as: root }\n      client-certificate-data: ${b64(old.certificate)}`,
    ),
    [/# kept/, /as: root/],
  ],
];

describe("a kubeconfig, in whatever form", () => {
  it.each(corpus)("%s: the pair changes and nothing else", async (name, content, kept) => {
    const { open, text, write, file } = rig();
    write(content);
    const before = await open().read();
    expect(leafOf(before)).toBe(old.leaf.fingerprint);
    const material = await testMaterial(ca);
    const after = await open().deliver(material, before.version, testStep());
    expect(leafOf(after)).toBe(material.leaf.fingerprint);
    for (const pattern of kept) expect(text()).toMatch(pattern);
    if (name === "CRLF") expect(text().replaceAll("\r\n", "")).not.toMatch(/[\r\n]/);
    expect(statSync(file).mode & 0o777).toBe(0o640);
    // By value: all but the one user and its cluster's CA is what it was.
    const [was, is] = [content, text()].map((one) => parse(one, { merge: true }));
    const { extensions, ...holds } = is.users[0].user;
    expect(extensions).toHaveLength(1);
    expect(Buffer.from(holds["client-key-data"], "base64").toString()).toBe(keyText(material));
    const changed = {
      "client-certificate-data": holds["client-certificate-data"],
      "client-key-data": holds["client-key-data"],
    };
    expect(holds).toEqual({ ...was.users[0].user, ...changed });
    expect({ ...is, users: is.users.slice(1) }).toEqual({ ...was, users: was.users.slice(1) });
    // And back: what is not the mark is as it was.
    const back = await open().restore(after.version, testStep(), old);
    expect(leafOf(back)).toBe(old.leaf.fingerprint);
    await open().forget(testStep());
    expect((await open().read()).version).toBe(back.version);
  });

  it("reads a change of its own entry, and of no other, as a change", async () => {
    const { open, text, write } = rig();
    write(plain);
    const { version } = await open().deliver(await testMaterial(ca), (await open().read()).version, testStep());
    write(
      text()
        .replace("namespace: shop", "namespace: other")
        .replace("# kept", "# and more")
        .replace("10.9.9.9", "10.9.9.8"),
    );
    expect((await open().read()).version).toBe(version);
    write(text().replace("10.0.0.1", "10.0.0.2"));
    expect((await open().read()).version).not.toBe(version);
  });

  it("takes pair and CA from files beside it, relative to it, and embeds the next", async () => {
    const { open, text, write } = rig();
    writeFileSync(join(home, "admin.crt"), old.certificate);
    writeFileSync(join(home, "admin.key"), keyText(old));
    writeFileSync(join(home, "ca.crt"), ca.root.pem);
    write(
      plain
        .replace(user, "client-certificate: admin.crt, client-key: ./admin.key")
        .replace(`certificate-authority-data: ${b64(ca.root.pem)}`, "certificate-authority: ca.crt"),
    );
    const before = await open().read();
    expect(leafOf(before)).toBe(old.leaf.fingerprint);
    expect(before.flaw).toBeUndefined();
    await open().deliver(await testMaterial(ca), before.version, testStep());
    expect(text()).not.toMatch(/client-certificate: |client-key: |certificate-authority: /);
    expect(readFileSync(join(home, "admin.key"), "utf8")).toBe(keyText(old));
  });
});

const flaws: [string, (text: string) => string, RegExp][] = [
  [
    "a client certificate as the CA",
    (text) => text.replace(b64(ca.root.pem), b64(old.certificate)),
    /holds CN=old\.example, which is no CA certificate/,
  ],
  [
    "another CA",
    (text) => text.replace(b64(ca.root.pem), b64(stranger.root.pem)),
    /holds CN=stranger root .* and not CN=test root .*, the cluster's own/,
  ],
  [
    "no CA",
    (text) => text.replace(`certificate-authority-data: ${b64(ca.root.pem)}, `, ""),
    /has no certificate-authority/,
  ],
  ["what is no PEM", (text) => text.replace(b64(ca.root.pem), "Z2FyYmFnZQ=="), /holds no certificate that can be read/],
  [
    "no look at the server at all",
    (text) => text.replace(`certificate-authority-data: ${b64(ca.root.pem)}`, "insecure-skip-tls-verify: true"),
    /insecure-skip-tls-verify/,
  ],
];
describe("a CA that is not the cluster's", () => {
  it.each(flaws)("%s: told, and corrected by the next delivery", async (_, spoil, words) => {
    const { open, write, text } = rig();
    write(spoil(plain));
    const before = await open().read();
    expect(before.flaw).toMatch(words);
    expect(leafOf(before)).toBe(old.leaf.fingerprint);
    // It stands in nobody's way: a delivery is what corrects it.
    await open().check!();
    const after = await open().deliver(await testMaterial(ca), before.version, testStep());
    expect(after.flaw).toBeUndefined();
    expect(Buffer.from(parse(text()).clusters[0].cluster["certificate-authority-data"], "base64").toString()).toBe(
      ca.root.pem,
    );
  });

  it("the right one, alone or beside another, is none", async () => {
    const { open, write } = rig();
    write(plain);
    expect((await open().read()).flaw).toBeUndefined();
    write(plain.replace(b64(ca.root.pem), b64(stranger.root.pem + ca.root.pem)));
    expect((await open().read()).flaw).toBeUndefined();
  });

  it("a cluster that has another CA by now: the same op brings it, and what somebody else spoilt is a conflict", async () => {
    const { open, write, text, cluster } = rig();
    write(plain);
    const [material, step] = [await testMaterial(ca), testStep()];
    await open().deliver(material, (await open().read()).version, step);
    const published = "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt";
    cluster.put(published, { data: { "ca.crt": stranger.root.pem } });
    expect((await open().read()).flaw).toContain("not CN=stranger root");
    expect((await open().deliver(material, "sha256:then", step)).flaw).toBeUndefined();
    write(text().replace(b64(stranger.root.pem), b64(old.certificate)));
    expect((await open().read()).flaw).toBeDefined();
    expect(await codeOf(open().deliver(material, "sha256:then", step))).toBe("conflict");
  });
});

const ways: [string, string][] = [
  ["exec", "exec: { apiVersion: client.authentication.k8s.io/v1, command: login }"],
  ["token", "token: hunter2-hunter2"],
  ["tokenFile", "tokenFile: /run/token"],
  ["password", "username: admin, password: hunter2-hunter2"],
];
describe("what would stop a delivery", () => {
  it.each(ways)("a user that authenticates by %s is left alone", async (way, fields) => {
    const { open, write, text } = rig();
    const content = plain.replace(user, fields);
    write(content);
    const error = await open().check!().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(GyreError);
    expect(error).toMatchObject({
      code: "refused",
      message: expect.stringContaining(way),
      next: expect.stringContaining("take"),
    });
    expect(JSON.stringify(error)).not.toContain("hunter2");
    expect(await codeOf(open().deliver(await testMaterial(ca), "absent", testStep()))).toBe("refused");
    expect(text()).toBe(content);
  });

  const inputs: [string, object, string, RegExp][] = [
    ["a context that is not there", { context: "pord" }, plain, /no context pord; there are: prod, staging/],
    ["nothing there, and no server given", {}, "", /no context prod/],
    ["no kubeconfig", {}, "apiVersion: v1\nkind: Secret\n", /no `kind: Config`/],
    ["no YAML", {}, "a: [", /not valid YAML/],
    [
      "a cluster entry that leads elsewhere",
      { context: "new", server: "https://10.1.1.1:6443" },
      plain,
      /cluster prod leads to https:\/\/10\.0\.0\.1:6443/,
    ],
    ["a user that is somebody's", { context: "new", server, user: "dev" }, plain, /user dev is there already/],
  ];
  it.each(inputs)("%s", async (_, more, content, words) => {
    const { open, write, text } = rig(more);
    write(content);
    await expect(open().check!()).rejects.toThrow(words);
    await expect(open().deliver(await testMaterial(ca), "absent", testStep())).rejects.toThrow(words);
    expect(text()).toBe(content);
  });

  it("a symbolic link, which a rename would replace", async () => {
    const { open, file } = rig();
    writeFileSync(join(home, "real"), plain);
    symlinkSync("real", file);
    expect(await codeOf(open().check!())).toBe("refused");
    expect(await codeOf(open().deliver(await testMaterial(ca), (await open().read()).version, testStep()))).toBe(
      "refused",
    );
    expect(readFileSync(join(home, "real"), "utf8")).toBe(plain);
  });

  it("another cluster of the same name: its CA is not taken", async () => {
    const { open, write, text, cluster } = rig();
    write(plain);
    const { version } = await open().read();
    cluster.put("/api/v1/namespaces/kube-system", { metadata: { uid: "11111111-2222-3333-4444-555555555555" } });
    expect(await codeOf(open().check!())).toBe("conflict");
    expect(await codeOf(open().deliver(await testMaterial(ca), version, testStep()))).toBe("conflict");
    expect(text()).toBe(plain);
  });
});

describe("a new one", () => {
  it("is made whole, with narrow mode, and taken away again", async () => {
    const { open, text, file } = rig({ server, user: "robot", context: "nightly" });
    await open().check!();
    const material = await testMaterial(ca);
    const after = await open().deliver(material, "absent", testStep());
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(parse(text())).toMatchObject({
      "current-context": "nightly",
      contexts: [{ name: "nightly", context: { cluster: "prod", user: "robot" } }],
      clusters: [{ name: "prod", cluster: { server, "certificate-authority-data": b64(ca.root.pem) } }],
    });
    await open().restore(after.version, testStep());
    expect(readdirSync(home).filter((name) => !name.startsWith("."))).toEqual([]);
  });

  it("context in a document of others leaves theirs and its current one", async () => {
    const { open, text, write } = rig({ server, context: "robot", user: "robot" });
    write(plain);
    await open().deliver(await testMaterial(ca), "absent", testStep());
    const is = parse(text());
    expect(is["current-context"]).toBe("prod");
    expect(is.users.map((one: { name: string }) => one.name)).toEqual(["admin", "dev", "robot"]);
    expect({ ...is, users: is.users.slice(0, 2), contexts: is.contexts.slice(0, 2) }).toEqual(parse(plain));
  });
});

const tamperUser = (text: string) => text.replace(/client-key-data: \S+/, `client-key-data: ${b64("somebody's")}`);
targetConformance("kubeconfig, embedded in a file", async () => {
  const { open, text, write } = rig({ server });
  return { open, tamper: async () => write(tamperUser(text())), close: async () => {} };
});
targetConformance("kubeconfig, files beside it", async () => {
  const { open } = rig({ server, material: { certificate: "c.pem", privateKey: "k.pem", ca: "ca.pem" } });
  const tamper = async () => writeFileSync(join(home, "k.pem"), "somebody's");
  return { open, tamper, close: async () => {} };
});
targetConformance("kubeconfig in a Secret", async () => {
  const cluster = new FakeCluster(ca.root.pem);
  const at = "/api/v1/namespaces/shop/secrets/robot";
  const secret = { cluster: "prod", namespace: "shop", name: "robot", key: "value", create: true };
  const open = () =>
    createKubeconfigTarget(kubeconfigSettings.parse({ secret, cluster: "prod", server }), {
      baseDir: "/",
      cluster: () => cluster,
    });
  const tamper = async () => {
    const now = cluster.objects.get(at) as unknown as { data: { value: string } };
    const text = Buffer.from(now.data.value, "base64").toString();
    cluster.put(at, { ...now, data: { value: b64(tamperUser(text)) } });
  };
  return { open, tamper, close: async () => {} };
});

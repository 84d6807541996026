import { execFile } from "node:child_process";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { GyreError } from "../../errors.ts";
import { codeOf, type TestCa, testCa, testMaterial, testStep } from "../conformance/material.ts";
import { leafOf } from "../conformance/target.ts";
import { realDisk } from "./disk.ts";
import { targetSettings } from "./settings.ts";
import { createFilesTarget } from "./target.ts";

const run = promisify(execFile);
const PAIR = { certificate: "tls.pem", privateKey: "tls.key" };

let ca: TestCa;
let baseDir: string;
beforeAll(async () => {
  ca = await testCa();
});
beforeEach(async () => {
  baseDir = await mkdtemp(join(tmpdir(), "gyre-files-"));
});
afterEach(() => rm(baseDir, { recursive: true }));

const at = (name: string) => join(baseDir, name);
const target = (shape: object) => createFilesTarget(targetSettings.parse(shape), { baseDir });
async function errorOf(work: Promise<unknown>): Promise<GyreError> {
  return work.then(
    () => Promise.reject(new Error("it succeeded")),
    (error: unknown) => (error instanceof GyreError ? error : Promise.reject(error)),
  );
}

describe("files target: what others read", () => {
  it("openssl finds key, leaf and chain in the configured files", async () => {
    const material = await testMaterial(ca);
    await target({ ...PAIR, chain: "chain.pem" }).deliver(material, "absent", testStep());
    await writeFile(at("root.pem"), material.roots);
    const verify = await run("openssl", [
      "verify",
      "-CAfile",
      at("root.pem"),
      "-untrusted",
      at("chain.pem"),
      at("tls.pem"),
    ]);
    expect(verify.stdout).toMatch(/OK/);
    const pub = async (...args: string[]) => (await run("openssl", args)).stdout.replace(/^[^-]*/, "");
    expect(await pub("pkey", "-in", at("tls.key"), "-pubout")).toBe(
      await pub("x509", "-in", at("tls.pem"), "-noout", "-pubkey"),
    );
    expect((await readFile(at("tls.pem"), "utf8")).match(/BEGIN/g)?.length).toBe(1);
  });

  it("writes leaf and chain into one certificate file when the chain has none of its own", async () => {
    await target(PAIR).deliver(await testMaterial(ca), "absent", testStep());
    expect((await readFile(at("tls.pem"), "utf8")).match(/BEGIN CERTIFICATE/g)?.length).toBe(2);
  });

  it("gives a chain file the root when there is no intermediate, never nothing", async () => {
    const material = { ...(await testMaterial({ ...ca, authority: ca.rootAuthority })), chain: "" };
    await target({ ...PAIR, chain: "chain.pem" }).deliver(material, "absent", testStep());
    expect(await readFile(at("chain.pem"), "utf8")).toBe(ca.root.pem);
  });

  it("HAProxy accepts the combined file: leaf, chain, key", async () => {
    await target({ combined: "site.pem" }).deliver(await testMaterial(ca), "absent", testStep());
    const text = await readFile(at("site.pem"), "utf8");
    expect([...text.matchAll(/BEGIN ([A-Z ]+)/g)].map((match) => match[1])).toEqual([
      "CERTIFICATE",
      "CERTIFICATE",
      "PRIVATE KEY",
    ]);
    await writeFile(
      at("haproxy.cfg"),
      `global\ndefaults\n mode http\n timeout client 1s\n timeout server 1s\n timeout connect 1s\nfrontend f\n bind 127.0.0.1:1 ssl crt ${at("site.pem")}\n`,
    );
    await run("haproxy", ["-c", "-f", at("haproxy.cfg")]);
  });

  it.each([
    ["pkcs12", "PKCS12"],
    ["jks", "JKS"],
  ])("keytool opens a %s key store, with key and chain under the alias", async (format, type) => {
    const material = await testMaterial(ca);
    await writeFile(at("password"), "changeit\n");
    const keystore = { path: "store", password: { file: "password" }, alias: "web", format };
    const store = target({ keystore });
    await store.deliver(material, "absent", testStep());
    const { stdout } = await run("keytool", [
      "-list",
      "-v",
      "-keystore",
      at("store"),
      "-storetype",
      type,
      "-storepass",
      "changeit",
    ]);
    expect(stdout).toMatch(/Alias name: web/);
    expect(stdout).toMatch(/PrivateKeyEntry/);
    expect(stdout).toMatch(/chain length: 2/);
    expect(leafOf(await store.read())).toBe(material.leaf.fingerprint);
  });
});

describe("files target: taking over plain files", () => {
  it("keeps content, owner and mode of what was there, and each path readable at every moment", async () => {
    await writeFile(at("tls.pem"), "old certificate");
    await writeFile(at("tls.key"), "old key");
    await chmod(at("tls.key"), 0o640);
    const seen = new Set<string>();
    let disturbed = 0;
    const disk = new Proxy(realDisk, {
      get(real, name: keyof typeof realDisk) {
        return async (...args: unknown[]) => {
          const [pem, key] = await Promise.all([
            readFile(at("tls.pem"), "utf8"),
            readFile(at("tls.key"), "utf8"),
          ]).catch(() => ["", ""]);
          if (pem === "" || key === "") disturbed += 1;
          seen.add(`${pem.startsWith("old")} ${key.startsWith("old")}`);
          return (real[name] as (...all: unknown[]) => Promise<unknown>)(...args);
        };
      },
    });
    const taken = createFilesTarget(targetSettings.parse(PAIR), { baseDir, disk });
    const { version } = await taken.read();
    const delivered = await taken.deliver(await testMaterial(ca), version, testStep());
    expect(disturbed).toBe(0);
    expect([...seen].sort()).toEqual(["false false", "true true"]); // never one of each
    expect((await stat(at("tls.key"))).mode & 0o777).toBe(0o640);
    expect(await readlink(at("tls.pem"))).toBe(".gyre-tls.pem/current/certificate");
    await taken.restore(delivered.version, testStep());
    expect(await readFile(at("tls.key"), "utf8")).toBe("old key");
    expect((await stat(at("tls.key"))).mode & 0o777).toBe(0o640);
  });

  it("switches files of different directories in one step, by absolute links", async () => {
    await mkdir(at("private"));
    const spread = target({ certificate: "tls.pem", privateKey: "private/tls.key" });
    await spread.deliver(await testMaterial(ca), "absent", testStep());
    expect(await readlink(at("private/tls.key"))).toBe(at(".gyre-tls.pem/current/privateKey"));
    expect((await spread.read()).privateKey).toBeDefined();
  });

  it("moves from one layout to the other and back, with what it can restore", async () => {
    const [first, second, third] = [await testMaterial(ca), await testMaterial(ca), await testMaterial(ca)];
    const one = await target(PAIR).deliver(first, "absent", testStep());
    const renamed = target({ ...PAIR, layout: "rename" });
    const two = await renamed.deliver(second, one.version, testStep());
    expect((await lstat(at("tls.key"))).isFile()).toBe(true);
    expect(leafOf(await renamed.restore(two.version, testStep()))).toBe(first.leaf.fingerprint);
    const back = await target(PAIR).deliver(third, one.version, testStep());
    expect((await lstat(at("tls.key"))).isSymbolicLink()).toBe(true);
    expect(leafOf(await target(PAIR).restore(back.version, testStep()))).toBe(first.leaf.fingerprint);
    await target(PAIR).forget(testStep());
    expect((await readdir(at(".gyre-tls.pem"))).length).toBe(2); // current, and where it leads
  });

  it("leaves a link that is somebody else's alone and says where it leads", async () => {
    await writeFile(at("theirs.pem"), "theirs");
    await symlink("theirs.pem", at("tls.pem"));
    const error = await errorOf(
      target(PAIR).deliver(await testMaterial(ca), (await target(PAIR).read()).version, testStep()),
    );
    expect(error.code).toBe("refused");
    expect(error.message).toMatch(/tls\.pem is a symbolic link to theirs\.pem that Gyre did not make; nothing written/);
    expect(await readdir(baseDir)).toEqual(["theirs.pem", "tls.pem"]);
  });

  it("takes a plain file put over its link for what it is, and takes it over again", async () => {
    const first = await target(PAIR).deliver(await testMaterial(ca), "absent", testStep());
    await rm(at("tls.key"));
    await writeFile(at("tls.key"), "put by hand");
    const seen = await target(PAIR).read();
    expect(seen.op).toBeUndefined();
    expect(seen.version).not.toBe(first.version);
    const second = await target(PAIR).deliver(await testMaterial(ca), seen.version, testStep());
    await target(PAIR).restore(second.version, testStep());
    expect(await readFile(at("tls.key"), "utf8")).toBe("put by hand");
  });
});

describe("files target: owner and mode", () => {
  it("are set before the file can be found, by name or number", async () => {
    const modes: string[] = [];
    const disk = new Proxy(realDisk, {
      get(real, name: keyof typeof realDisk) {
        return async (...args: unknown[]) => {
          if (name === "write" || name === "rename") {
            for (const file of await readdir(baseDir, { recursive: true })) {
              const found = await stat(at(file)).catch(() => undefined);
              if (found?.isFile() && /privateKey|tls\.key/.test(file))
                modes.push(`${found.uid}:${found.gid} ${(found.mode & 0o777).toString(8)}`);
            }
          }
          return (real[name] as (...all: unknown[]) => Promise<unknown>)(...args);
        };
      },
    });
    const settings = targetSettings.parse({ ...PAIR, owner: "nobody", group: "65534", mode: "0640" });
    await createFilesTarget(settings, { baseDir, disk }).deliver(await testMaterial(ca), "absent", testStep());
    expect(new Set(modes)).toEqual(new Set(["65534:65534 640"]));
  });

  it("are narrow for a new key and readable for a new certificate", async () => {
    await target(PAIR).deliver(await testMaterial(ca), "absent", testStep());
    expect((await stat(at("tls.key"))).mode & 0o777).toBe(0o600);
    expect((await stat(at("tls.pem"))).mode & 0o777).toBe(0o644);
  });

  it("stay as they are in place when the manifest is silent", async () => {
    for (const name of ["tls.pem", "tls.key"]) {
      await writeFile(at(name), "old");
      await chown(at(name), 65534, 65534);
      await chmod(at(name), 0o440);
    }
    await target(PAIR).deliver(await testMaterial(ca), (await target(PAIR).read()).version, testStep());
    const key = await stat(at("tls.key"));
    expect([key.uid, key.gid, key.mode & 0o777]).toEqual([65534, 65534, 0o440]);
  });

  it("name an unknown user and write nothing", async () => {
    const error = await errorOf(
      target({ ...PAIR, owner: "nobody-at-all" }).deliver(await testMaterial(ca), "absent", testStep()),
    );
    expect([error.code, error.message]).toEqual([
      "input",
      "owner nobody-at-all: no such user on this host; nothing written",
    ]);
    expect(await readdir(baseDir)).toEqual([]);
  });
});

describe("files target: disks and permissions", () => {
  const child = join(import.meta.dirname, "..", "conformance", "deliver-child.ts");

  /** Runs a shell line (mounts, users) and then one delivery, in a mount namespace of its own. */
  async function deliverAfter(setUp: string, shape: object, change: { as?: string[]; after?: string } = {}) {
    const material = await testMaterial(ca);
    const privateKey = material.privateKey!.use((key) => key.toString());
    const order = {
      settings: shape,
      baseDir,
      expected: change.after ?? "absent",
      op: "op",
      material: { ...material, leaf: null, privateKey },
    };
    const orders = await mkdtemp(join(tmpdir(), "gyre-order-"));
    await chmod(orders, 0o755);
    await writeFile(join(orders, "order.json"), JSON.stringify(order));
    const command = [...(change.as ?? []), process.execPath, child, join(orders, "order.json")];
    const line = `${setUp}\n${command.map((word) => `'${word}'`).join(" ")}\necho "files: $(find '${baseDir}' -type f -o -type l | sort | tr '\\n' ' ')"`;
    const { stdout } = await run("unshare", ["--mount", "sh", "-ec", line]);
    await rm(orders, { recursive: true });
    const [json, files] = stdout.trim().split("\n");
    return {
      told: JSON.parse(json!) as { code?: string; message?: string; version?: string; next?: string },
      files: files!,
    };
  }

  it.each([
    ["switched", PAIR],
    ["renamed", { ...PAIR, layout: "rename" }],
    ["combined", { combined: "tls.pem" }],
  ])(
    "a disk that fills at any point (%s): nothing in place changes, nothing staged is left, the path is named",
    async (_, shape) => {
      for (const name of ["tls.pem", "tls.key"]) await writeFile(at(name), "old\n");
      const { version } = await target(shape).read();
      const codes: string[] = [];
      // tmpfs gives whole pages: from room for nothing to room for all.
      for (let pages = 14; !codes.includes("delivered"); pages--) {
        const fill = `mount -t tmpfs -o size=64k none '${baseDir}'
        echo old > '${baseDir}/tls.pem'; echo old > '${baseDir}/tls.key'
        head -c ${4096 * pages} /dev/zero > '${baseDir}/filler'`;
        const { told, files } = await deliverAfter(fill, shape, { after: version });
        codes.push(told.code ?? "delivered");
        if (told.code === undefined) continue;
        expect(told.message).toMatch(/no space left on the device; what was in place is untouched/);
        expect(told.message).toContain(baseDir);
        // A record of what is in place may be left, but no copy of it and nothing half-written.
        const left = files.split(" ").filter((file) => !/\/\.gyre-tls\.pem\/(current|v\d+\/version\.json)$/.test(file));
        expect(left).toEqual(["files:", at("filler"), at("tls.key"), at("tls.pem")]);
      }
      expect(codes.length).toBeGreaterThan(3);
      expect(new Set(codes)).toEqual(new Set(["disk", "delivered"]));
    },
  );

  it("a full disk that is freed: the same delivery goes through", async () => {
    const { told } = await deliverAfter(`mount -t tmpfs -o size=64k none '${baseDir}'`, PAIR);
    expect(told.version).toMatch(/^sha256:/);
  });

  it("a read-only directory of the key, said before anything changes", async () => {
    await mkdir(at("keys"));
    const shape = { certificate: "tls.pem", privateKey: "keys/tls.key" };
    const bind = `mount --bind '${at("keys")}' '${at("keys")}' && mount -o remount,bind,ro '${at("keys")}'`;
    const { told, files } = await deliverAfter(bind, shape);
    expect(told.code).toBe("disk");
    expect(told.message).toBe(
      `checking the directory of the private key at ${at("keys")}: read-only file system; nothing written`,
    );
    expect(files).toBe("files:");
  });

  it("a key directory on another file system, where a switch would move the key off it", async () => {
    await mkdir(at("keys"));
    const shape = { certificate: "tls.pem", privateKey: "keys/tls.key" };
    const mount = `mount -t tmpfs none '${at("keys")}'`;
    const { told, files } = await deliverAfter(mount, shape);
    expect(told.code).toBe("refused");
    expect(told.message).toMatch(/is on another file system than/);
    expect(files).toBe("files:");
    const renamed = await deliverAfter(mount, { ...shape, layout: "rename" });
    expect(renamed.told.version).toMatch(/^sha256:/);
  });

  it("a directory this user may not write", async () => {
    await chmod(baseDir, 0o755);
    const as = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const { told, files } = await deliverAfter("true", PAIR, { as });
    expect(told.code).toBe("permission");
    expect(told.message).toContain(`${baseDir}: permission denied; nothing written`);
    expect(files).toBe("files:");
  });

  it("an owner this user may not set", async () => {
    await chown(baseDir, 65534, 65534);
    const as = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    const { told, files } = await deliverAfter("true", { ...PAIR, owner: "root" }, { as });
    expect(told.code).toBe("permission");
    expect(told.message).toMatch(/operation not permitted; what was in place is untouched/);
    expect(files).toBe("files:");
    expect((await deliverAfter("true", PAIR, { as })).told.version).toMatch(/^sha256:/);
  });

  it("a missing directory, a directory for a file, two files of one path", async () => {
    const material = await testMaterial(ca);
    const missing = await errorOf(
      target({ certificate: "no/tls.pem", privateKey: "no/tls.key" }).deliver(material, "absent", testStep()),
    );
    expect([missing.code, missing.where]).toEqual(["input", at("no")]);
    await mkdir(at("tls.key"));
    expect((await errorOf(target(PAIR).deliver(material, "absent", testStep()))).code).toBe("input");
    expect(() => target({ certificate: "x.pem", privateKey: "./x.pem" })).toThrow(
      /two files of one target have the path/,
    );
    expect(await codeOf(target(PAIR).check!())).toBe("input");
  });
});

describe("files target: compare-and-swap", () => {
  it("sees a change made while it was staging, and writes nothing", async () => {
    const first = await target({ combined: "tls.pem" }).deliver(await testMaterial(ca), "absent", testStep());
    let changed = false;
    const disk = new Proxy(realDisk, {
      get(real, name: keyof typeof realDisk) {
        return async (...args: unknown[]) => {
          if (name === "mkdir" && !changed) {
            changed = true;
            await writeFile(at("tls.pem"), "somebody was faster");
          }
          return (real[name] as (...all: unknown[]) => Promise<unknown>)(...args);
        };
      },
    });
    const slow = createFilesTarget(targetSettings.parse({ combined: "tls.pem" }), { baseDir, disk });
    const error = await errorOf(slow.deliver(await testMaterial(ca), first.version, testStep()));
    expect(error.code).toBe("conflict");
    expect(error.message).toMatch(
      /tls\.pem changed under us \(now sha256:[0-9a-f]{12}, planned on sha256:[0-9a-f]{12}\); nothing written/,
    );
    expect(await readFile(at("tls.pem"), "utf8")).toBe("somebody was faster");
  });

  it("holds between processes: of two, one writes", async () => {
    const child = join(import.meta.dirname, "..", "conformance", "deliver-child.ts");
    const results = await Promise.all(
      [1, 2, 3].map(async (n) => {
        const material = await testMaterial(ca);
        const privateKey = material.privateKey!.use((key) => key.toString());
        const order = {
          settings: PAIR,
          baseDir,
          expected: "absent",
          op: `op ${n}`,
          material: { ...material, leaf: null, privateKey },
        };
        const path = join(baseDir, `order-${n}.json`);
        await writeFile(path, JSON.stringify(order));
        return JSON.parse((await run(process.execPath, [child, path])).stdout).code ?? "delivered";
      }),
    );
    expect(results.sort()).toEqual(["conflict", "conflict", "delivered"]);
  });
});

import { createDecipheriv, hash, hkdfSync, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Secret } from "../pki/secret.ts";
import { openSecrets } from "./secrets.ts";

let home: string;
let key: string;
beforeEach(() => {
  home = join(mkdtempSync(join(tmpdir(), "gyre-secrets-")), "store");
  key = join(home, "store.key");
});
afterEach(() => rmSync(join(home, ".."), { recursive: true }));

const open = () => openSecrets(home, { file: key });
const text = (secret: Secret | undefined) => secret?.use((bytes) => bytes.toString("utf8"));
const blobOf = (name: string) => join(home, `${name}.enc`);

describe("the secret store", () => {
  it("gives back what was put, to another process's handle too", async () => {
    const digest = await (await open()).put("shop-tls/g4.key", Secret.of("PRIVATE"));
    const again = await open();
    expect(text(await again.get("shop-tls/g4.key"))).toBe("PRIVATE");
    expect(digest).toBe(`sha256:${hash("sha256", readFileSync(blobOf("shop-tls/g4.key")), "hex")}`);
    expect(await again.get("shop-tls/g5.key")).toBeUndefined();
    expect(await again.list()).toEqual(["shop-tls/g4.key"]);
    await again.put("empty", Secret.of(""));
    expect(text(await again.get("empty"))).toBe("");
  });

  it("writes AES-256-GCM that any other program can open with the key", async () => {
    await (await open()).put("a/b", Secret.of("PRIVATE"));
    const blob = readFileSync(blobOf("a/b"));
    const magic = Buffer.from("GYRE-SECRET-1\n");
    expect(blob.subarray(0, 14)).toEqual(magic);
    expect(blob.subarray(14, 22)).toEqual(
      Buffer.from(hkdfSync("sha256", readFileSync(key), "", "gyre secret store: key id", 8)),
    );
    const decipher = createDecipheriv("aes-256-gcm", readFileSync(key), blob.subarray(22, 34));
    decipher.setAAD(Buffer.concat([blob.subarray(0, 34), Buffer.from("a/b")]));
    decipher.setAuthTag(blob.subarray(34, 50));
    expect(Buffer.concat([decipher.update(blob.subarray(50)), decipher.final()]).toString()).toBe("PRIVATE");
  });

  it("holds no byte of the secret in clear, and never the same ciphertext twice", async () => {
    const secrets = await open();
    const marked = randomBytes(32).toString("hex");
    await secrets.put("one", Secret.of(marked));
    await secrets.put("two", Secret.of(marked));
    const [one, two] = ["one", "two"].map((name) => readFileSync(blobOf(name)));
    for (const bytes of [one!, two!]) expect(bytes.includes(marked.slice(0, 8))).toBe(false);
    expect(one!.subarray(22).equals(two!.subarray(22))).toBe(false);
  });

  it("repeats a put safely and refuses to overwrite", async () => {
    const secrets = await open();
    const digest = await secrets.put("a", Secret.of("first"));
    expect(await secrets.put("a", Secret.of("first"))).toBe(digest);
    await expect(secrets.put("a", Secret.of("second"))).rejects.toMatchObject({ code: "conflict" });
    await expect(secrets.put("a", Secret.of("firsT"))).rejects.toMatchObject({ code: "conflict" });
    expect(text(await secrets.get("a"))).toBe("first");
  });

  it("lets one of many concurrent puts win and leaves nothing else", async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 12 }, async (_, n) => (await open()).put("a/race", Secret.of(`value ${n}`))),
    );
    const won = results.flatMap((one, n) => (one.status === "fulfilled" ? [n] : []));
    expect(won).toHaveLength(1);
    expect(text(await (await open()).get("a/race"))).toBe(`value ${won[0]}`);
    expect(readdirSync(join(home, "a"))).toEqual(["race.enc"]);
  });

  it("refuses any changed byte, and a blob under another name", async () => {
    const secrets = await open();
    await secrets.put("a/g1", Secret.of("PRIVATE"));
    const blob = readFileSync(blobOf("a/g1"));
    for (let at = 0; at < blob.length; at++) {
      const changed = Buffer.from(blob);
      changed[at]! ^= 1;
      writeFileSync(blobOf("a/g1"), changed);
      const code = at >= 14 && at < 22 ? "input" : "damaged";
      await expect(secrets.get("a/g1"), `byte ${at}`).rejects.toMatchObject({ code });
    }
    for (const length of [0, 5, 49, blob.length - 1]) {
      writeFileSync(blobOf("a/g1"), blob.subarray(0, length));
      await expect(secrets.get("a/g1")).rejects.toMatchObject({ code: "damaged" });
    }
    writeFileSync(blobOf("a/g1"), blob);
    expect(text(await secrets.get("a/g1"))).toBe("PRIVATE");
    renameSync(blobOf("a/g1"), blobOf("a/g2"));
    await expect(secrets.get("a/g2")).rejects.toMatchObject({ code: "damaged" });
  });

  it("tells a wrong key from a damaged file", async () => {
    await (await open()).put("a", Secret.of("PRIVATE"));
    const foreign = Secret.of(randomBytes(32));
    await expect(openSecrets(home, { secret: foreign })).rejects.toMatchObject({
      code: "input",
      message: expect.stringContaining("secret a: encrypted with another store key"),
    });
    const blob = readFileSync(blobOf("a"));
    writeFileSync(blobOf("a"), "damaged");
    const other = await openSecrets(home, { secret: foreign });
    writeFileSync(blobOf("a"), blob);
    await expect(other.get("a")).rejects.toMatchObject({
      code: "input",
      message: expect.stringContaining("another store key"),
    });
    await expect(other.put("a", Secret.of("x"))).rejects.toMatchObject({ code: "input" });
    const same = await openSecrets(home, { secret: Secret.of(readFileSync(key)) });
    expect(text(await same.get("a"))).toBe("PRIVATE");
    await expect(openSecrets(home, { secret: Secret.of("short") })).rejects.toMatchObject({ code: "input" });
    writeFileSync(key, randomBytes(31));
    await expect(open()).rejects.toMatchObject({ code: "input", message: expect.stringContaining("31 bytes") });
  });

  it("makes no new key beside blobs of a lost one", async () => {
    await (await open()).put("a/b", Secret.of("PRIVATE"));
    rmSync(key);
    await expect(open()).rejects.toMatchObject({ code: "input", where: key });
    expect(existsSync(key)).toBe(false);
  });

  it("agrees on one key when many open it first", async () => {
    await Promise.all(Array.from({ length: 8 }, async (_, n) => (await open()).put(`s${n}`, Secret.of(`${n}`))));
    const secrets = await open();
    for (let n = 0; n < 8; n++) expect(text(await secrets.get(`s${n}`))).toBe(`${n}`);
  });

  it("keeps others out, and refuses what they could read", async () => {
    const secrets = await open();
    await secrets.put("a/b", Secret.of("PRIVATE"));
    const modes = [home, join(home, "a"), key, blobOf("a/b")].map((path) => (statSync(path).mode & 0o777).toString(8));
    expect(modes).toEqual(["700", "700", "600", "600"]);
    for (const [path, mode] of [
      [key, 0o640],
      [home, 0o755],
    ] as const) {
      const kept = statSync(path).mode;
      chmodSync(path, mode);
      await expect(open()).rejects.toMatchObject({
        code: "permission",
        where: path,
        next: expect.stringContaining("chmod"),
      });
      chmodSync(path, kept);
    }
    chmodSync(blobOf("a/b"), 0o604);
    await expect(secrets.get("a/b")).rejects.toMatchObject({ code: "permission" });
    chmodSync(blobOf("a/b"), 0o600);
    expect(text(await (await open()).get("a/b"))).toBe("PRIVATE");
  });

  it("destroys: the bytes are overwritten, also where a crash left a second name for them", async () => {
    const secrets = await open();
    await secrets.put("a/g1", Secret.of("PRIVATE"));
    await secrets.put("a/g2", Secret.of("OTHER"));
    const blob = readFileSync(blobOf("a/g1"));
    const witness = join(home, "witness");
    linkSync(blobOf("a/g1"), witness);
    const left = join(home, "a", ".g1.enc.0123456789abcdef.tmp");
    writeFileSync(left, blob, { mode: 0o600 });
    const leftWitness = join(home, "left");
    linkSync(left, leftWitness);
    await secrets.delete("a/g1");
    expect(readdirSync(join(home, "a"))).toEqual(["g2.enc"]);
    for (const path of [witness, leftWitness]) {
      expect(readFileSync(path)).toHaveLength(blob.length);
      expect(readFileSync(path).includes(blob.subarray(50))).toBe(false);
    }
    expect(await secrets.get("a/g1")).toBeUndefined();
    await secrets.delete("a/g1");
    await secrets.delete("never/was");
    expect(text(await secrets.get("a/g2"))).toBe("OTHER");
  });

  it("reaches nothing outside of itself", async () => {
    const secrets = await open();
    const names = [
      "",
      ".",
      "..",
      "../x",
      "a/../../x",
      "/etc/x",
      "a//b",
      "a/",
      "a\\b",
      "a\0b",
      "a b",
      "-rf",
      ".hidden",
      "a/.b",
    ];
    for (const name of [...names, "ä", "x".repeat(129), Array(9).fill("a").join("/")]) {
      await expect(secrets.put(name, Secret.of("x")), name).rejects.toMatchObject({ code: "input" });
      await expect(secrets.get(name)).rejects.toMatchObject({ code: "input" });
      await expect(secrets.delete(name)).rejects.toMatchObject({ code: "input" });
    }
    expect(readdirSync(join(home, ".."))).toEqual(["store"]);
    await secrets.put("shop-tls/g4.key", Secret.of("x"));
  });

  it("lets no secret byte into an error", async () => {
    const secrets = await open();
    await secrets.put("a", Secret.of("MARKED-ONE"));
    mkdirSync(blobOf("b"));
    const errors = [
      secrets.put("a", Secret.of("MARKED-TWO")),
      secrets.put("../a", Secret.of("MARKED")),
      secrets.get("b"),
    ];
    const said = await Promise.all(
      errors.map((one) =>
        one.then(
          () => "",
          (error) => `${JSON.stringify(error)}${error.stack}`,
        ),
      ),
    );
    for (const one of said) {
      expect(one).not.toBe("");
      expect(one).not.toContain("MARKED");
    }
  });
});

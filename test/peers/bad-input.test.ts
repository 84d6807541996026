/**
 * Bad input as an operator meets it, at the command line: one clear error that says what, where, what was left untouched
 * and what to do next; nothing half-applied; and, the harm undone, the same estate closes.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { freePort } from "../../lab/estate.ts";
import { evidenceFiles, type Fault, type FullDisk, fullDisks, odd, program, refused } from "./fixtures/faults.ts";
import { manners, startHostile, startVerifier } from "./fixtures/hostile.ts";
import { expectCloses, makeShop, type Ran, type Shop, type ShopOptions, serverName } from "./fixtures/shop.ts";

async function inShop(name: string, options: ShopOptions | undefined, work: (shop: Shop) => Promise<void>) {
  const shop = await makeShop(name.replaceAll(/[^a-z]+/gi, "-").slice(0, 40), options);
  let failed = true;
  try {
    await work(shop);
    failed = false;
  } finally {
    await shop.end(failed);
  }
}

/** Names whose kind, mode or content changed. */
function changed(before: Map<string, string>, after: Map<string, string>): string[] {
  return [...new Set([...before.keys(), ...after.keys()])].filter((name) => before.get(name) !== after.get(name));
}

/** The entries of the disturbed part of home that nothing may have touched. */
const outside = (names: string[], allowed: readonly string[]): string[] =>
  names.filter((name) => name !== "/" && ![".gyre/", ...allowed].some((prefix) => name.startsWith(prefix)));

const plain = (text: string): string => text.replaceAll(/\s+/g, " ");

function expectSays(ran: Ran, { says, next, exit }: Pick<Fault, "says" | "next" | "exit">): void {
  expect(ran.code, ran.said).toBe(exit);
  const said = plain(ran.said);
  for (const words of says) expect(said).toMatch(words);
  const advice = /next: (.*)$/.exec(said)?.[1] ?? "";
  expect(advice, ran.said).toMatch(next);
  expect(ran.said).not.toContain("a bug in gyre");
  expect(ran.said).not.toMatch(/^ +at /m);
  expect(ran.said).not.toContain("\u001b");
}

describe.concurrent("is refused or put back, with nothing half-applied", () => {
  for (const fault of refused)
    test(fault.name, () =>
      inShop(fault.name, fault.shop, async (shop) => {
        const before = await fault.before?.(shop);
        expect(before?.code ?? 0, before?.said).toBe(0);
        const old = await shop.served();
        const undo = await fault.harm(shop);
        const [names, files] = [shop.snapshot(), shop.inPlace()];

        const ran = await shop.rotate(fault.run);
        expectSays(ran, fault);
        expect(outside(changed(names, shop.snapshot()), fault.touches ?? [])).toEqual([]);
        expect(shop.inPlace()).toEqual(files);
        expect(await shop.served()).toEqual(old);
        if (fault.touches !== undefined) expect(shop.leftovers()).toEqual([]);
        if (fault.begun !== true) await expectSameInJson(shop, fault);

        await undo();
        await expectCloses(shop, old);
      }),
    );
});

/** Asked again it says the same, as one object, and changes nothing either. */
async function expectSameInJson(shop: Shop, fault: Fault): Promise<void> {
  const names = shop.snapshot();
  const ran = await shop.gyre(["rotate", "shop-tls", "--now", "--json"], fault.run);
  const { error, exit } = JSON.parse(ran.out) as {
    error: { code: string; message: string; next: string };
    exit: number;
  };
  expect([ran.code, exit, ran.err]).toEqual([fault.exit, fault.exit, ""]);
  expect(error.code).not.toBe("bug");
  expect(plain(`${error.message} ${JSON.stringify(error)}`)).toMatch(fault.says[0]!);
  expect(error.next).toMatch(fault.next);
  expect(outside(changed(names, shop.snapshot()), [])).toEqual([]);
}

describe.concurrent("is odd, and closes all the same", () => {
  for (const { name, shop: options, before, make, run } of odd)
    test(name, () =>
      inShop(name, options, async (shop) => {
        await before?.(shop);
        const old = await shop.served();
        await make(shop);
        const ran = await shop.rotate(run);
        expect(ran.code, ran.said).toBe(0);
        const now = await shop.served();
        expect(now).not.toEqual(old);
        expect(ran.said).toContain(now[0]!.slice(0, 8));
        const verified = await shop.gyre(["verify", shop.named(".gyre/receipts/0.json"), "--key", ".gyre/signing.pub"]);
        expect(verified.code, verified.said).toBe(0);
      }),
    );
});

const rows = fullDisks.flatMap(({ at, pages, named }) => pages.map((left) => ({ at, left, named })));
describe.concurrent("a disk that is full", () => {
  for (const { at, left, named } of rows)
    test(`at ${at} with ${left} pages left`, () =>
      inShop(`full ${at}`, onSmallDisk(at), async (shop) => {
        const old = await shop.served();
        // Never more than the small disk: were it not mounted, this must not fill the real one.
        await shop.shell(
          `test "$(stat -f -c %T '${at}')" = tmpfs; dd if=/dev/zero of='${at}/filler' bs=4096 count=200 2>/dev/null || true; truncate -s -${left * 4096} '${at}/filler'`,
        );
        const [names, files] = [shop.snapshot("ca/ca.key", "ca/ca.crt", "gyre.yaml"), shop.inPlace()];
        const ran = await shop.rotate();
        expectSays(ran, {
          says: [/: no space left on the device; /, named ?? new RegExp(at.replaceAll(".", "\\."))],
          next: /free space/,
          exit: ran.code === 6 ? 6 : 4,
        });
        expect(shop.snapshot("ca/ca.key", "ca/ca.crt", "gyre.yaml")).toEqual(names);
        if (ran.code === 4) expect(shop.inPlace()).toEqual(files);
        if (ran.code === 4) expect(await shop.served()).toEqual(old);
        await expectWholePair(shop);

        await shop.shell(`rm '${at}/filler'`);
        const closed = await shop.gyre(["rotate", "shop-tls", ...(ran.code === 6 ? [] : ["--now"]), "--wait", "20s"]);
        expect(closed.code, closed.said).toBe(0);
        expect(await shop.served()).not.toEqual(old);
        await expectWholePair(shop);
        const verified = await shop.gyre(["verify", shop.named(".gyre/receipts/0.json"), "--key", ".gyre/signing.pub"]);
        expect(verified.code, verified.said).toBe(0);
      }));
});

const onSmallDisk = (at: FullDisk["at"]): ShopOptions => ({
  mounts: `mkdir -p '${at}'\nmount -t tmpfs -o size=256k,mode=700 tmpfs '${at}'`,
});

/** The certificate and the key that a starting server would load belong together. */
async function expectWholePair(shop: Shop): Promise<void> {
  await shop.shell(
    `test "$(openssl x509 -in server-1/tls.pem -noout -pubkey)" = "$(openssl pkey -in server-1/tls.key -pubout)"`,
  );
}

/** Addresses in the manifest at which something is wrong; the one good server is not held against them. */
const atAddress = (address: string, shop: Shop): void =>
  shop.write(({ credential }) => {
    (credential.spec.prove[0]!.tls!.addresses as string[]).push(address);
  });

/** The most memory a process has had, in MiB; what its end leaves is the last that was seen. */
function watchMemory(pid: number): () => number {
  let most = 0;
  const timer = setInterval(() => {
    const line = /^VmHWM:\s+(\d+) kB/m.exec(readIfThere(`/proc/${pid}/status`))?.[1];
    most = Math.max(most, Number(line ?? 0) / 1024);
  }, 20);
  return () => {
    clearInterval(timer);
    return most;
  };
}
const readIfThere = (path: string): string => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
};

/** Holds, names that address alone, in bounded memory; a good server at the same address lets it go on. */
async function expectHolds(shop: Shop, address: string, says: RegExp): Promise<void> {
  let memory = () => 0;
  const held = await shop.rotate({
    onStart: (pid) => {
      memory = watchMemory(pid);
    },
  });
  const most = memory();
  expect(held.code, held.said).toBe(3);
  const reasons = plain(held.said.slice(held.said.indexOf("HELD")));
  expect(reasons).toMatch(new RegExp(`${address} .*${says.source}`));
  expect(reasons).toContain(`gyre waive shop-tls ${address}`);
  expect(reasons).not.toContain(shop.servers[0]!.address);
  expect(held.said).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
  expect(most).toBeGreaterThan(20);
  expect(most).toBeLessThan(400);
}

describe.concurrent("a server that", () => {
  for (const manner of manners)
    test(manner.name, () =>
      inShop(manner.name, undefined, async (shop) => {
        const old = await shop.served();
        const hostile = await startHostile(shop, manner);
        try {
          atAddress(hostile.address, shop);
          await expectHolds(shop, hostile.address, manner.says);
        } finally {
          await hostile.stop();
        }
        await shop.addServer(hostile.address);
        await expectGoesOn(shop, old);
      }),
    );

  test("is not there", async () => {
    await inShop("refused", undefined, async (shop) => {
      const old = await shop.served();
      const address = `127.0.0.1:${await freePort()}`;
      atAddress(address, shop);
      await expectHolds(shop, address, /connection refused/);
      await shop.addServer(address);
      await expectGoesOn(shop, old);
    });
  });

  test("has a name that does not resolve", async () => {
    await inShop("dns", undefined, async (shop) => {
      const old = await shop.served();
      shop.write(({ credential }) => {
        credential.spec.prove[0]!.tls = { serverName, resolve: "no-such-name.invalid:443" };
      });
      const held = await shop.rotate();
      expect(held.code, held.said).toBe(3);
      expect(plain(held.said)).toMatch(/no-such-name\.invalid:443 does not resolve .*no replica was looked at/);
      expect(plain(held.said)).toContain("released when the inventory can be resolved in full");
      shop.write();
      await expectGoesOn(shop, old);
    });
  });

  test("answers a request over mutual TLS without end", async () => {
    await inShop("endless", undefined, async (shop) => {
      const old = await shop.served();
      const verifier = await startVerifier(shop);
      try {
        shop.write(({ credential }) => {
          credential.spec.issue.usages = ["server", "client"];
          const request = { identityHeader: "x-client-serial" };
          credential.spec.prove.push({
            mutualTls: { serverName, addresses: [verifier.address], server: "nginx", request },
          });
        });
        await expectHolds(shop, verifier.address, /reply|body/);
        verifier.endless = false;
        await expectGoesOn(shop, old);
      } finally {
        await verifier.stop();
      }
    });
  });
});

/** The same rotation, taken up again: nothing was issued twice. */
async function expectGoesOn(shop: Shop, old: readonly (string | undefined)[]): Promise<void> {
  const issued = readFileSync(shop.path("ca/issued.jsonl"), "utf8");
  const closed = await shop.gyre(["rotate", "shop-tls", "--wait", "20s"]);
  expect(closed.code, closed.said).toBe(0);
  expect(closed.said).toContain("taken up again");
  expect(readFileSync(shop.path("ca/issued.jsonl"), "utf8")).toBe(issued);
  expect(await shop.served()).not.toEqual(old);
}

test("what would be put back is damaged: it says so with exit code 6, and the pair in place stays whole", async () => {
  await inShop("kept copy", undefined, async (shop) => {
    const old = await shop.served();
    const kept = "server-1/.gyre-tls.pem/v1/certificate";
    shop.write(({ credential }) => {
      const spoil = program(shop, `cp ${kept} kept.pem; echo spoilt >> ${kept}; exit 1`);
      credential.spec.deliver[0]!.reload = { command: [spoil] };
    });
    const ran = await shop.rotate();
    expect(ran.code, ran.said).toBe(6);
    expect(plain(ran.said)).toMatch(
      /STUCK .*the kept copy \S+\.gyre-tls\.pem\/v1 is missing or was changed; nothing written/,
    );
    expect(plain(ran.said)).toContain("deliver the old generation anew");
    await expectWholePair(shop);
    expect(await shop.served()).toEqual(old);

    await shop.shell(`cp kept.pem ${kept}`);
    shop.write();
    const back = await shop.gyre(["rotate", "shop-tls", "--wait", "20s"]);
    expect(back.code, back.said).toBe(4);
    expect(back.said).toContain("g1 is in place and was seen there");
    expect(await shop.served()).toEqual(old);
    await expectCloses(shop, old);
  });
});

test("evidence that a held rotation needs was altered: it holds, names the file, and goes on once it is back", async () => {
  await inShop("held evidence", undefined, async (shop) => {
    const old = await shop.served();
    shop.servers[0]!.process.signal("SIGSTOP");
    const held = await shop.gyre(["rotate", "shop-tls", "--now", "--wait", "5s"]);
    expect(held.code, held.said).toBe(3);
    shop.servers[0]!.process.signal("SIGCONT");
    const files = evidenceFiles(shop).map((path) => ({ path, bytes: readFileSync(path) }));
    for (const { path, bytes } of files) writeFileSync(path, `${bytes.toString()} `);
    const again = await shop.gyre(["rotate", "shop-tls", "--wait", "5s"]);
    expect(again.code, again.said).toBe(3);
    expect(plain(again.said)).toMatch(
      /evidence \S+\/sha256\/\S+: its bytes do not have the digest it is named by; left as it is/,
    );
    for (const { path, bytes } of files) writeFileSync(path, bytes);
    const closed = await shop.gyre(["rotate", "shop-tls", "--wait", "20s"]);
    expect(closed.code, closed.said).toBe(0);
    expect(await shop.served()).not.toEqual(old);
  });
});

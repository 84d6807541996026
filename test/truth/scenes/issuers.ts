/** Lines about who issues: 15, 20. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pause } from "../../../lab/estate.ts";
import { passphrase } from "../../../lab/gyre.ts";
import { credential, type Estate } from "../estate.ts";
import type { ExtraLook } from "../reality.ts";
import { nginx, serverName } from "../replicas.ts";
import { startGyre } from "../rotate.ts";
import { closed, held, type Scene } from "../scene.ts";
import { restart } from "./common.ts";

const hour = 3600_000;
const limits = "the CA limits, or issues other names or another lifetime";

/** The CA's record still knows of g1 only. */
const nothingIssued =
  (estate: Estate): ExtraLook =>
  async () => {
    const issued = readFileSync(estate.workspace.path("ca", "issued.jsonl"), "utf8").match(/"issued"/g)?.length;
    return issued === 1 ? undefined : { at: "ca", what: `${issued} certificates were issued` };
  };

export const otherNames: Scene = {
  ...{ line: 15, name: "15 names", fault: limits },
  how: "the manifest asks for a name outside the name constraints of the CA",
  estate: () => ({ ca: { permitted: { dns: [serverName] } } }),
  acts: (estate) => [
    {
      title: "fault",
      change: () => estate.write({ dnsNames: [serverName, "shop.elsewhere.test"] }),
      looks: [nothingIssued(estate)],
      expect: { result: "put back", words: /shop\.elsewhere\.test.*nothing was issued/ },
    },
    {
      title: "asks for less",
      change: () => estate.write({ dnsNames: [serverName] }),
      looks: [],
      expect: closed("REFUSED"),
    },
  ],
};

export const shorterLife: Scene = {
  ...{ line: 15, name: "15 lifetime", fault: limits },
  how: "the CA itself ends in 18 hours, the manifest asks for 24",
  estate: () => ({
    ...{ ca: { lifetime: "30h" }, caAge: 12 * hour, lifetimeBefore: 20 * hour },
    manifest: { lifetime: "16h" },
  }),
  acts: (estate) => [
    {
      title: "fault",
      change: () => estate.write({ lifetime: "24h" }),
      looks: [nothingIssued(estate)],
      expect: { result: "put back", words: /CA itself ends.*nothing was issued/ },
    },
    { title: "asks for less", change: () => estate.write({ lifetime: "16h" }), looks: [], expect: closed("REFUSED") },
  ],
};

const otherCa = fileURLToPath(new URL("../other-ca.mjs", import.meta.url));

/** What was issued and never used is in the journal as an orphan, and the CA was told to revoke it. */
function mustBeOrphaned(estate: Estate): void {
  const journal = readFileSync(estate.workspace.path(".gyre", "credentials", credential, "journal.jsonl"), "utf8");
  if (!journal.includes('"Orphaned"')) throw new Error("what was issued is nowhere recorded as an orphan");
  const record = readFileSync(estate.workspace.path("ca", "issued.jsonl"), "utf8");
  if (!record.includes('"revoked"')) throw new Error("what was issued and not used was not revoked");
}

const issuesOther = (name: string, how: string, which: string, words: RegExp): Scene => ({
  ...{ line: 15, name, fault: limits, how },
  acts: (estate) => [
    {
      title: "fault",
      async run(build) {
        const other = { module: otherCa, env: { TRUTH_CA: which } };
        const ended = await startGyre(estate, ["rotate", credential, "--now"], build, other).ended;
        mustBeOrphaned(estate);
        return ended;
      },
      expect: { result: "put back", words },
    },
    { title: "as asked", expect: closed("REFUSED") },
  ],
});

export const otherLifetime = issuesOther(
  "15 shorter",
  "the CA issues for one hour where a day was asked for; what it issued is recorded as an orphan and revoked",
  "lifetime",
  /something else than mesh-tls asks for.*not delivered anywhere/,
);
export const foreignNames = issuesOther(
  "15 foreign",
  "the CA issues for a name of its own; what it issued is recorded as an orphan and revoked",
  "names",
  /something else than mesh-tls asks for.*default\.elsewhere\.test.*not delivered anywhere/,
);

const ownCredential = "the engine's own credential expires in mid-rotation";

/** Seconds that the CA of this scene has left when its estate is built. */
const left = 45;

export const caExpires: Scene = {
  ...{ line: 20, name: "20 CA", fault: ownCredential },
  how: `the CA was brought with ${left} s to live and ends while the rotation is held; with it ends all it issued`,
  estate: (faulty) =>
    faulty
      ? {
          ...{ ca: { lifetime: "1h" }, caAge: hour - left * 1000, lifetimeBefore: hour - 10_000 },
          manifest: { lifetime: "25s", skew: "1s" },
        }
      : {},
  acts: (estate) => {
    const end = Date.now() + (left + 1) * 1000;
    const deaf = estate.nginx(2);
    return [
      { title: "held before", change: () => deaf.peer.break("ignoreReload"), expect: held(deaf.address) },
      {
        title: "fault",
        async change() {
          await restart(deaf);
          await pause(Math.max(0, end - Date.now()));
        },
        // The others were seen presenting it a minute ago, when it was still valid.
        expect: { ...held(deaf.address), words: /not valid at .*it ends/ },
      },
    ];
  },
};

/** The manifest names a file; what is in it is changed while the rotation is held. */
const passphraseIn = (estate: Estate, text: string): void => {
  const path = estate.workspace.path("ca-passphrase");
  writeFileSync(path, text, { mode: 0o600 });
  const given = { directory: "ca", subject: "CN=Truth CA", passphrase: { file: path } };
  estate.write({ localCa: `localCA: ${JSON.stringify(given)}` });
};

export const passphraseChanged: Scene = {
  ...{ line: 20, name: "20 access", fault: ownCredential },
  how: "the passphrase of the CA's key is changed in mid-rotation, so that no CRL can be made",
  estate: () => ({ replicas: [nginx(), nginx(), nginx()] }),
  acts: (estate) => {
    const deaf = estate.nginx(2);
    return [
      {
        title: "held before",
        async change() {
          passphraseIn(estate, passphrase);
          await deaf.peer.break("ignoreReload");
        },
        expect: held(deaf.address),
      },
      {
        title: "fault",
        async change() {
          await restart(deaf);
          passphraseIn(estate, "not the one it was");
        },
        // Where the first of the CRLs should lie, and why it does not.
        expect: {
          ...held(join(estate.replica(1).dir, "tls", "ca.crl")),
          words: /^held at revoked.*wrong passphrase.*nothing was issued/,
        },
      },
      { title: "given back", change: () => passphraseIn(estate, passphrase), expect: closed("REFUSED") },
    ];
  },
};

/** Lines about those who check: 9, 12, 17, 18, 21, 22. */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pause, waitFor } from "../../../lab/estate.ts";
import { openSession, request, resumes } from "../../../lab/witness.ts";
import type { Estate } from "../estate.ts";
import type { ExtraLook } from "../reality.ts";
import { type Ground, goTls, nginx, serverName, shellWords } from "../replicas.ts";
import { closed, type Expected, held, type Scene } from "../scene.ts";
import { restart, runHook } from "./common.ts";

/** The witness keeps a session that the old certificate opened before the rotation, and tries it again. */
function oldSession(estate: Estate, number: number): { open: () => Promise<void>; look: ExtraLook } {
  const replica = estate.replica(number);
  const file = estate.workspace.path(`${replica.name}.session`);
  const as = { ...estate.old, name: serverName };
  return {
    async open() {
      if (!(await openSession(replica.address, file, as))) throw new Error(`${replica.name} gave no session`);
    },
    async look() {
      const { reused, status } = await resumes(replica.address, file, as);
      return reused && status === 200
        ? { at: replica.name, what: "resumes a session of the old one and answers 200" }
        : undefined;
    },
  };
}

const withTicketKeys = (ground: Ground, name: string): ReturnType<ReturnType<typeof nginx>> => {
  const keyFile = ground.workspace.path("tickets.key");
  writeFileSync(keyFile, randomBytes(80), { mode: 0o600 });
  return nginx({ tickets: { keyFile } })(ground, name);
};

export const resumedSession: Scene = {
  ...{ line: 9, name: "9", fault: "a resumed session skips the new trust", probesOnly: true },
  how: "one nginx has a session ticket key file, which outlives its reloads: a ticket of the old certificate is honoured whatever the CRL says",
  estate: (faulty) => ({ kind: "client", replicas: [nginx(), faulty ? withTicketKeys : nginx(), nginx()] }),
  acts: (estate) => {
    const session = oldSession(estate, 2);
    const resuming = estate.nginx(2);
    return [
      { title: "fault", change: session.open, looks: [session.look], expect: atRefused(resuming.address) },
      {
        title: "repaired",
        async change() {
          resuming.peer.configure({ tickets: "off" });
          await resuming.peer.reloadFully();
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

const clocks = "clocks 10 minutes apart";
const minute = 60;

export const clocksApart: Scene = {
  ...{ line: 12, name: "12", fault: clocks },
  how: "one nginx is 10 minutes slow, another 10 minutes fast: what is issued is dated back by more than that",
  estate: (faulty) =>
    faulty ? { replicas: [nginx({ clockOffset: -10 * minute }), nginx(), nginx({ clockOffset: 10 * minute })] } : {},
  acts: () => [{ title: "fault", expect: closed("REFUSED") }],
};

export const clockBeyond: Scene = {
  ...{ line: 12, name: "12 beyond", fault: clocks },
  how: "one nginx is 20 minutes slow, more than what is issued is dated back by: to it the new one is not valid yet",
  estate: (faulty) => ({
    ...{ caAge: 3600_000, lifetimeBefore: 20 * 3600_000 },
    ...(faulty ? { replicas: [nginx(), nginx({ clockOffset: -20 * minute }), nginx()] } : {}),
  }),
  acts: (estate) => {
    const slow = estate.nginx(2);
    return [
      { title: "fault", expect: held(slow.address) },
      {
        title: "clock set",
        async change() {
          slow.peer.configure({ clockOffset: 0 });
          await restart(slow);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

const atRefused = (address: string): Expected => ({ ...held(address), words: /^held at refused/ });

export const downAtCornerC: Scene = {
  ...{ line: 17, name: "17", fault: "a verifier is down at corner C", probesOnly: true },
  how: "the reload after its CRL was published stops one nginx: no answer is not a refusal",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const down = estate.nginx(3);
    const tls = join(down.dir, "tls");
    // The CRL that arrives is another than the one it read at start: that is the moment.
    const script = `if cmp -s ${tls}/ca.crl ${tls}/live.crl; then ${down.hook!.usual.replace("set -e\n", "")}\nelse kill -QUIT "$(cat ${down.peer.pidFile})"\nfi\n`;
    return [
      { title: "fault", change: () => estate.hook(down, script), expect: atRefused(down.address) },
      {
        title: "started",
        async change() {
          estate.hook(down);
          await down.peer.start();
          await runHook(down);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const honoursOld: Scene = {
  ...{ line: 18, name: "18", fault: "the provider accepts a delete and honours the old for an hour", probesOnly: true },
  how: "a Go server loads the CRL at once and honours whom it knew before for another 12 seconds",
  estate: (faulty) => ({ replicas: [nginx(), nginx(), goTls(faulty ? { honourOld: 12_000 } : {})] }),
  acts: (estate) => {
    const slow = estate.replica(3);
    return [
      { title: "fault", expect: atRefused(slow.address) },
      {
        title: "once it refuses",
        async change() {
          const old = { ...estate.old, name: serverName };
          await waitFor("it to refuse the old one", async () => (await request(slow.address, old)).saw === "alert");
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

const crlExpires = "the CRL expires";

export const crlExpiredBefore: Scene = {
  ...{ line: 21, name: "21 before", fault: crlExpires },
  how: "one nginx reads a CRL of its own that nobody renewed: it refuses everybody",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const stale = estate.nginx(3);
    return [
      {
        title: "fault",
        async change() {
          estate.hook(stale, await hookWithExpiredCrl(estate));
          await runHook(stale);
        },
        expect: held(stale.address),
      },
      {
        title: "repaired",
        async change() {
          estate.hook(stale);
          await runHook(stale);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const crlExpiredAtRemoval: Scene = {
  ...{ line: 21, name: "21 removal", fault: crlExpires, probesOnly: true },
  how: "in place of the CRL that revokes the old one, one nginx loads one that has expired: it refuses the old one, and everybody else",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const stale = estate.nginx(3);
    const tls = join(stale.dir, "tls");
    return [
      {
        title: "fault",
        async change() {
          const expired = await hookWithExpiredCrl(estate);
          const usual = stale.hook!.usual.replace("set -e\n", "");
          estate.hook(stale, `if cmp -s ${tls}/ca.crl ${tls}/live.crl; then ${usual}\nelse ${expired}\nfi\n`);
        },
        expect: atRefused(stale.address),
      },
      {
        title: "repaired",
        async change() {
          estate.hook(stale);
          await runHook(stale);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

/** A reload script for replica 3 that gives it the new pair, and a CRL that ended a moment ago. */
async function hookWithExpiredCrl(estate: Estate): Promise<string> {
  const replica = estate.nginx(3);
  const tls = join(replica.dir, "tls");
  const expired = estate.workspace.path("expired.crl");
  const step = { op: "expired-crl", tag: "before.gyre", signal: new AbortController().signal };
  writeFileSync(expired, await estate.ca.ca.publishCrl(step, 1000));
  await pause(1500);
  const copies = ["pem", "key"].map((end) => `cp ${tls}/tls.${end} ${tls}/live.${end}`);
  return `${copies.join("\n")}\ncp ${expired} ${tls}/live.crl\n${shellWords(replica.peer.reloadCommand)}\n`;
}

export const identityBlind: Scene = {
  ...{ line: 22, name: "22", fault: "an identity-blind 200", probesOnly: true },
  how: "one nginx asks for a client certificate and answers 200 to whoever shows none, naming nobody",
  estate: (faulty) => ({
    replicas: [nginx(), faulty ? nginx({ verify: "optional", identityHeader: false }) : nginx(), nginx()],
  }),
  acts: (estate) => {
    const blind = estate.nginx(2);
    return [
      { title: "fault", expect: held(blind.address) },
      {
        title: "repaired",
        async change() {
          blind.peer.configure({ verify: "on", identityHeader: "X-Client-Serial" });
          await blind.peer.reloadFully();
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

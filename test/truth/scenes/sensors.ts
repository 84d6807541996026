/** Lines about those who use the old one unseen: 8, 16. */
import { rmSync } from "node:fs";
import { type Client, startClient } from "../../../lab/clients/client.ts";
import { serialOf } from "../../../lab/pki.ts";
import type { Estate } from "../estate.ts";
import type { ExtraLook } from "../reality.ts";
import { nginx, serverName } from "../replicas.ts";
import { closed, type Expected, type Scene } from "../scene.ts";

interface Consumer {
  start(hold: "pooled" | "fresh"): Promise<void>;
  stop(): Promise<void>;
  readonly look: ExtraLook;
}

/** A service that read its files at start and never again. Its own notes tell whom the server saw. */
function consumerOf(estate: Estate, number: number): Consumer {
  let client: Client | undefined;
  const replica = estate.replica(number);
  const old = serialOf(estate.old.certificate);
  return {
    async start(hold) {
      client = await startClient(estate.workspace, {
        ...{ name: "billing", address: replica.address, roots: estate.roots, serverName, hold },
        ...estate.old,
      });
    },
    async stop() {
      await client?.stop();
      client = undefined;
    },
    async look() {
      const last = client?.uses().at(-1);
      return last?.status === 200 && last.serial?.toLowerCase().replace(/^0+/, "") === old
        ? { at: "billing", what: `goes on using the old one at ${replica.name}` }
        : undefined;
    },
  };
}

const atQuiet = (words: RegExp, ...names: string[]): Expected => ({ result: "held", names, words });

export const pooledConnection: Scene = {
  ...{ line: 8, name: "8", fault: "a pooled connection keeps the old identity" },
  how: "a client holds a pooled connection to one nginx with the client certificate it read at start",
  estate: () => ({ kind: "client" }),
  acts: (estate) => {
    const consumer = consumerOf(estate, 2);
    return [
      {
        title: "fault",
        change: () => consumer.start("pooled"),
        looks: [consumer.look],
        // The log it was seen in, and where it came from.
        expect: atQuiet(/^held at quiet.*by 127\.0\.0\.1/, estate.replica(2).peer.accessLog),
      },
      { title: "client stopped", change: () => consumer.stop(), expect: closed("REFUSED") },
    ];
  },
};

const gap = "the sensor has a gap";

export const logSwitchedOff: Scene = {
  ...{ line: 16, name: "16 off", fault: gap },
  how: "one nginx writes no access log any more, and a client goes on using the old certificate there",
  estate: () => ({ kind: "client" }),
  acts: (estate) => {
    const consumer = consumerOf(estate, 3);
    const unseen = estate.nginx(3);
    return [
      {
        title: "fault",
        async change() {
          await unseen.peer.logGap(true, { remove: true });
          await consumer.start("fresh");
        },
        looks: [consumer.look],
        expect: atQuiet(/^held at quiet/, unseen.peer.accessLog),
      },
      {
        title: "log on, still used",
        change: () => unseen.peer.logGap(false),
        expect: atQuiet(/^held at quiet.*by 127\.0\.0\.1/, unseen.peer.accessLog),
      },
      { title: "client stopped", change: () => consumer.stop(), expect: closed("REFUSED") },
    ];
  },
};

export const logRemoved: Scene = {
  ...{ line: 16, name: "16 removed", fault: gap },
  how: "the access log of one nginx was deleted, and nginx goes on writing to the deleted file",
  estate: () => ({ kind: "client" }),
  acts: (estate) => {
    const consumer = consumerOf(estate, 3);
    const unseen = estate.nginx(3);
    return [
      {
        title: "fault",
        async change() {
          await consumer.start("fresh");
          rmSync(unseen.peer.accessLog);
        },
        looks: [consumer.look],
        expect: atQuiet(/^held at quiet/, unseen.peer.accessLog),
      },
      {
        title: "log opened anew",
        async change() {
          await consumer.stop();
          await unseen.peer.reloadFully();
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const clockOfTheLog: Scene = {
  ...{ line: 12, name: "12 log", fault: "clocks 10 minutes apart" },
  how: "an nginx whose clock is 10 minutes slow writes uses of the old one with times before the quiet window began",
  estate: (faulty) => ({
    kind: "client",
    replicas: [nginx(), nginx(faulty ? { clockOffset: -600 } : {}), nginx()],
  }),
  acts: (estate) => {
    const consumer = consumerOf(estate, 2);
    return [
      {
        title: "fault",
        change: () => consumer.start("fresh"),
        looks: [consumer.look],
        expect: atQuiet(/^held at quiet.*by 127\.0\.0\.1/, estate.replica(2).peer.accessLog),
      },
      { title: "client stopped", change: () => consumer.stop(), expect: closed("REFUSED") },
    ];
  },
};

/** Lines about one of several members: 5, 6, 7, 10, 11, 23. */
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../../../lab/estate.ts";
import { type Haproxy, startBalancer } from "../../../lab/peers/haproxy.ts";
import { overwrite } from "../estate.ts";
import { envoy, goTls, haproxy, java, nginx, type Replica } from "../replicas.ts";
import { closed, held, type Scene } from "../scene.ts";
import { restart, runHook } from "./common.ts";

const one = "one of N replicas ignores reload";

export const ignoresReload: Scene = {
  ...{ line: 5, name: "5", fault: one, probesOnly: true },
  how: "the pid file of one nginx names another process; `nginx -s reload` ends with 0",
  acts: (estate) => [
    {
      title: "fault",
      change: () => estate.nginx(2).peer.break("ignoreReload"),
      expect: held(estate.replica(2).address),
    },
    { title: "repaired", change: () => restart(estate.replica(2)), expect: closed("REFUSED") },
  ],
};

export const haproxyIgnoresReload: Scene = {
  ...{ line: 5, name: "5 haproxy", fault: one, probesOnly: true },
  how: "server certificates only, on nginx, HAProxy and Envoy; HAProxy's master never hears SIGUSR2",
  estate: () => ({ kind: "server", replicas: [nginx(), haproxy(), envoy()] }),
  acts: (estate) => {
    const deaf = estate.replica(2) as Replica<Haproxy>;
    return [
      { title: "fault", change: () => deaf.peer.ignoreReload(true), expect: held(deaf.address) },
      { title: "repaired", change: () => restart(deaf), expect: closed("SUPERSEDED") },
    ];
  },
};

export const envoyReadsOnce: Scene = {
  ...{ line: 5, name: "5 envoy", fault: one },
  how: "mutual TLS on Envoy, HAProxy and Go; Envoy was configured without a watch and reads its files once",
  estate: (faulty) => ({ replicas: [haproxy(), envoy(faulty ? { watch: false } : {}), goTls()] }),
  acts: (estate) => [
    // Its CRL is read once as well, so a second start is needed after it was published.
    { title: "fault", expect: held(estate.replica(2).address) },
    { title: "restarted once", change: () => restart(estate.replica(2)), expect: held(estate.replica(2).address) },
    { title: "restarted again", change: () => restart(estate.replica(2)), expect: closed("REFUSED") },
  ],
};

export const balancerHides: Scene = {
  ...{ line: 6, name: "6", fault: "a load balancer sends every probe to the healthy one" },
  how: "the manifest lists only the balancer's address, with replicas: 3; two of three nginx ignore their reload",
  acts: (estate) => [
    {
      title: "fault",
      async change() {
        const backends = estate.replicas.map(({ address }) => address);
        const balancer = await startBalancer(estate.workspace, { name: "balancer", backends });
        await balancer.pinTo(estate.replica(1).address);
        for (const number of [2, 3]) await estate.nginx(number).peer.break("ignoreReload");
        estate.write({ presenters: [balancer.address], count: 3 });
      },
      expect: { result: "held", words: /3 replicas expected, 1 address/ },
    },
    {
      title: "each listed",
      change: () => estate.write({ presenters: estate.replicas.map(({ address }) => address), count: 3 }),
      expect: held(estate.replica(2).address, estate.replica(3).address),
    },
    {
      title: "repaired",
      change: async () => {
        for (const number of [2, 3]) await restart(estate.replica(number));
      },
      expect: closed("REFUSED"),
    },
  ],
};

export const readsOnce: Scene = {
  ...{ line: 7, name: "7", fault: "a consumer that reads once (JKS, PKCS#12)", probesOnly: true },
  how: "a Java service with a PKCS#12 key store beside two nginx; only a restart shows it the new one",
  estate: (faulty) => ({ kind: "server", replicas: [nginx(), nginx(), faulty ? java() : nginx()] }),
  acts: (estate) => [
    { title: "fault", expect: held(estate.replica(3).address) },
    { title: "restarted", change: () => restart(estate.replica(3)), expect: closed("SUPERSEDED") },
  ],
};

/** The agent of a node copies what was delivered when the node is there; while it is away, nothing happens to it. */
export const nodeAway: Scene = {
  ...{ line: 10, name: "10", fault: "a node is away during the rotation and returns" },
  how: "one nginx is down when its files are delivered, and comes back with the copies it had",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const node = estate.replica(3);
    return [
      {
        title: "away",
        async change() {
          await node.peer.stop();
          estate.hook(node, "exit 0\n");
        },
        expect: held(node.address),
      },
      { title: "back with the old", change: () => node.peer.start(), expect: held(node.address) },
      {
        title: "repaired",
        async change() {
          estate.hook(node);
          await runHook(node);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

/** Chosen beforehand: whom the hold must name is stated before that server exists. */
const fourth = await freePort();

export const joinsHalfWay: Scene = {
  ...{ line: 11, name: "11", fault: "a member joins half-way" },
  how: "a fourth nginx with the old certificate and the old CRL joins while the rotation is held by another",
  acts: (estate) => [
    {
      title: "held before",
      change: () => estate.nginx(2).peer.break("ignoreReload"),
      expect: held(estate.replica(2).address),
    },
    {
      title: "fault",
      async change() {
        await restart(estate.replica(2));
        const four = await estate.add(nginx({ port: fourth }));
        // It is in nobody's plan as a target: its files are its own operator's affair.
        estate.write({ deliver: { [four.name]: "" }, noCrl: [four.name] });
      },
      expect: held(`127.0.0.1:${fourth}`),
    },
    {
      title: "served by hand",
      async change() {
        overwrite(estate.replica(1).stored, estate.replica(4).stored);
        await restart(estate.replica(4));
      },
      expect: held(`127.0.0.1:${fourth}`),
    },
    {
      title: "its CRL as well",
      async change() {
        copyFileSync(join(estate.replica(1).dir, "tls", "ca.crl"), join(estate.replica(4).dir, "tls", "ca.crl"));
        await restart(estate.replica(4));
      },
      expect: closed("REFUSED"),
    },
  ],
};

export const diesAfterReload: Scene = {
  ...{ line: 23, name: "23", fault: "a server that dies right after reload" },
  how: "one nginx serves the new certificate for half a second after its reload and is gone",
  acts: (estate) => {
    const dying = estate.nginx(3);
    return [
      { title: "fault", change: () => dying.peer.break("diesOnReload"), expect: held(dying.address) },
      { title: "started again", change: () => restart(dying), expect: closed("REFUSED") },
    ];
  },
};

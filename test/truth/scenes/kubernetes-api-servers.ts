/** Lines about API servers that differ from one another: client CAs, one that is down, a denial that does not come. */

import { waitFor } from "../../../lab/estate.ts";
import { makeAuthority } from "../../../lab/pki.ts";
import type { ClusterEstate, ClusterManifest } from "../kubernetes/estate.ts";
import { type Front, startFront } from "../kubernetes/front.ts";
import { type Build, type Ended, startGyre } from "../rotate.ts";
import { closed, held, type Scene } from "../scene.ts";

export type ClusterScene = Scene<ClusterEstate, Partial<ClusterManifest>>;

/** Another CA signs client certificates from now on; API server 2 was never told. */
async function newClientCa(estate: ClusterEstate): Promise<{ tell(number: number): void }> {
  const { cluster } = estate;
  const ca = makeAuthority(estate.workspace.dir, { name: "clients-2", subject: "/CN=clients-2" });
  const tell = (number: number) => estate.api(number).trustClients(cluster.ca.certificate, ca.certificate);
  estate.mend(async () => {
    for (const one of cluster.apiServers) one.trustClients(cluster.ca.certificate);
    await cluster.restartControllerManager();
    await cluster.balancer.pinTo(undefined);
  });
  tell(1);
  tell(3);
  await cluster.balancer.pinTo(estate.api(1).address);
  await cluster.restartControllerManager({ clientSigner: ca });
  await waitFor(
    "the new CA to be published",
    async () =>
      (
        await cluster.kubectl(
          "-n",
          "kube-system",
          "get",
          "configmap",
          "extension-apiserver-authentication",
          "-o",
          "yaml",
        )
      ).match(/BEGIN CERTIFICATE/g)!.length > 2,
  );
  return { tell };
}

const keepsOld = "one API server keeps its old client CA";

export const oldClientCa: ClusterScene = {
  ...{ line: 5, name: "k8s client-ca", fault: keepsOld, probesOnly: true },
  how: "client certificates are signed by another CA from now on, and one of three API servers was never told to accept it",
  estate: () => ({ audit: false }),
  acts: (estate) => {
    let ca: Awaited<ReturnType<typeof newClientCa>>;
    return [
      {
        title: "fault",
        async change() {
          ca = await newClientCa(estate);
        },
        expect: held(estate.api(2).address),
      },
      { title: "told", change: () => ca.tell(2), expect: closed("DENIED") },
    ];
  },
};

export const behindBalancer: ClusterScene = {
  ...{ line: 6, name: "k8s balancer", fault: "a load balancer sends every probe to the healthy one" },
  how: "the same, and the manifest lists the balancer's address alone; the balancer leads to a healthy one",
  estate: () => ({ audit: false }),
  acts: (estate) => {
    let ca: Awaited<ReturnType<typeof newClientCa>>;
    const listed = `addresses: ["${estate.cluster.balancer.address}"]`;
    return [
      {
        title: "fault",
        async change() {
          ca = await newClientCa(estate);
          estate.write({ apiServers: `{ ${listed} }` });
        },
        expect: { result: "held", words: /lists 1 API servers, but as many as hold a lease in kube-system are 3/ },
      },
      {
        title: "with count: 3",
        change: () => estate.write({ apiServers: `{ ${listed}, count: 3 }` }),
        expect: { result: "error", code: "manifest", words: /3 API servers, but 1 addresses are listed/ },
      },
      {
        title: "each found",
        change: () => estate.write({ apiServers: undefined }),
        expect: held(estate.api(2).address),
      },
      { title: "told", change: () => ca.tell(2), expect: closed("DENIED") },
    ];
  },
};

/** A finalizer on the binding of the old one: its deletion is accepted, and it stays. */
async function keepBinding(estate: ClusterEstate, keep: boolean): Promise<void> {
  const finalizers = keep ? ["truth.example/kept"] : null;
  const patch = ["--type=merge", "-p", JSON.stringify({ metadata: { finalizers } })];
  await estate.cluster.kubectl("patch", "clusterrolebinding", estate.binding(1), ...patch);
  if (keep) estate.mend(() => keepBinding(estate, false).catch(() => undefined));
}

export const keptBinding: ClusterScene = {
  ...{ line: 18, name: "k8s finalizer", fault: "the provider accepts a delete and honours the old for an hour" },
  how: "somebody's finalizer keeps the old one's binding: its deletion is accepted, and it goes on giving its rights",
  estate: () => ({ audit: false }),
  acts: (estate) => [
    {
      title: "fault",
      change: () => keepBinding(estate, true),
      expect: held(`${estate.group(0).slice(0, -2)}{generation}`),
    },
    { title: "let go", change: () => keepBinding(estate, false), expect: closed("DENIED") },
  ],
};

/** The moment is given by a finalizer: the deletion is asked for, the API server is killed, then the binding goes. */
async function killedBetween(estate: ClusterEstate, build: Build): Promise<Ended> {
  const { ended } = startGyre(estate, ["rotate", estate.credential, "--now"], build);
  let over = false;
  ended.then(() => {
    over = true;
  });
  await waitFor(
    "the deletion to be asked for",
    async () =>
      over ||
      (await estate.cluster.kubectl("get", "clusterrolebinding", estate.binding(1), "-o", "yaml")).includes(
        "deletionTimestamp",
      ),
    { timeout: 100_000, poll: 200 },
  );
  await estate.api(2).process.kill();
  await keepBinding(estate, false);
  return ended;
}

export const downAtCornerC: ClusterScene = {
  ...{ line: 17, name: "k8s down", fault: "a verifier is down at corner C" },
  how: "one of three API servers is killed between the removal of the old one's binding and the look: no answer is no denial",
  estate: () => ({ audit: false, patience: "20s" }),
  acts: (estate) => {
    const addresses = JSON.stringify(estate.cluster.apiServers.map(({ address }) => address));
    const down = estate.api(2);
    const start = async () => {
      if (!down.process.running) await down.start();
    };
    return [
      {
        title: "fault",
        async change() {
          estate.write({ apiServers: `{ addresses: ${addresses}, count: 3 }` });
          await keepBinding(estate, true);
          await estate.cluster.balancer.pinTo(estate.api(1).address);
          estate.mend(start);
          estate.mend(() => estate.cluster.balancer.pinTo(undefined));
        },
        run: (build) => killedBetween(estate, build),
        expect: { ...held(down.address), words: /^held at (deleted|refused)/ },
      },
      { title: "started", change: start, expect: closed("DENIED") },
    ];
  },
};

export const answersForIt: ClusterScene = {
  ...{ line: 22, name: "k8s front", fault: "an identity-blind 200" },
  how: "one address of the manifest is that of a proxy that ends TLS and asks the API server as itself",
  estate: () => ({ audit: false }),
  acts: (estate) => {
    let front: Front;
    return [
      {
        title: "fault",
        async change() {
          front = await startFront(estate, 2);
          const addresses = [estate.api(1).address, front.address, estate.api(3).address];
          estate.write({ apiServers: `{ addresses: ${JSON.stringify(addresses)} }` });
        },
        expect: { ...held(), words: /127\.0\.0\.1:\d+ it took us for lab-admin/ },
      },
      { title: "passes TLS on", change: () => front.passOn(), expect: closed("DENIED") },
    ];
  },
};

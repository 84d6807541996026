/** Lines about what lies where: 3, 13, 14, 19. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeAuthority } from "../../../lab/pki.ts";
import { type Estate, overwrite } from "../estate.ts";
import { nginx, type Replica, shellWords } from "../replicas.ts";
import { closed, held, type Scene } from "../scene.ts";
import { restart, runHook } from "./common.ts";

const another = "another controller changed the object";

export const changedBeforeDelivery: Scene = {
  ...{ line: 3, name: "3 before", fault: another },
  how: "while the first target is written, another controller writes other files to the third",
  acts: (estate) => {
    const [first, third] = [estate.replica(1), estate.replica(3)];
    const path = pathOf(third);
    return [
      {
        title: "fault",
        async change() {
          // Another certificate of the same CA, put there by somebody else while Gyre checks the first target's files.
          const foreign = await estate.ca.issue({
            ...{ subject: "CN=mesh", names: ["DNS:mesh.example"], usages: ["server", "client"] },
          });
          const pair = {
            certificate: estate.workspace.path("foreign.pem"),
            privateKey: estate.workspace.path("foreign.key"),
          };
          foreign.writePem(pair.certificate, pair.privateKey);
          const script = estate.workspace.path("other-controller.sh");
          const copy = [
            ["cp", pair.certificate, path],
            ["cp", pair.privateKey, path.replace(/pem$/, "key")],
          ];
          writeFileSync(script, copy.map(shellWords).join("\n"));
          estate.write({
            deliver: { [first.name]: `${first.deliver}\n  validate: { command: [/bin/sh, ${script}] }` },
          });
        },
        expect: held(path),
      },
      {
        title: "put back",
        change() {
          estate.write({ deliver: {} });
          overwrite(estate.old, third.stored);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

const pathOf = (replica: Replica): string => join(replica.dir, "tls", "tls.pem");

export const changedWhileHeld: Scene = {
  ...{ line: 3, name: "3 held", fault: another },
  how: "while the rotation is held by one replica, another controller writes the old files back at a second",
  acts: (estate) => {
    const [deaf, other] = [estate.nginx(2), estate.nginx(3)];
    return [
      { title: "held before", change: () => deaf.peer.break("ignoreReload"), expect: held(deaf.address) },
      {
        title: "fault",
        async change() {
          await restart(deaf);
          overwrite(estate.old, other.stored);
        },
        expect: held(pathOf(other)),
      },
      {
        title: "put right",
        change: () => overwrite(deaf.stored, other.stored),
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const halfDelivered: Scene = {
  ...{ line: 13, name: "13", fault: "new key with old certificate", probesOnly: true },
  how: "the reload script of one nginx copies the key and not the certificate; nginx will not load such a pair, and the script says nothing",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const half = estate.nginx(3);
    const [tls, reload] = [join(half.dir, "tls"), shellWords(half.peer.reloadCommand)];
    const script = `cp ${tls}/tls.key ${tls}/live.key\ncp ${tls}/ca.crl ${tls}/live.crl\n${reload} || true\n`;
    return [
      { title: "fault", change: () => estate.hook(half, script), expect: held(half.address) },
      {
        title: "repaired",
        async change() {
          estate.hook(half);
          await runHook(half);
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

export const halfDeliveredLoudly: Scene = {
  ...{ line: 13, name: "13 loud", fault: "new key with old certificate" },
  how: "the same, and the script fails as nginx does: everything is put back",
  estate: () => ({ replicas: [nginx(), nginx(), nginx({ hook: true })] }),
  acts: (estate) => {
    const half = estate.nginx(3);
    const [tls, reload] = [join(half.dir, "tls"), shellWords(half.peer.reloadCommand)];
    const script = `cp ${tls}/tls.key ${tls}/live.key\n${reload}\n`;
    return [
      {
        title: "fault",
        change: () => estate.hook(half, script),
        expect: { result: "put back", words: /reload|key values mismatch/ },
      },
      { title: "repaired", change: () => estate.hook(half), expect: closed("REFUSED") },
    ];
  },
};

const chain = "missing or wrong intermediate";
const underIntermediate = () => ({
  ...{ kind: "server" as const, ca: { intermediate: true } },
  replicas: [nginx(), nginx(), nginx({ hook: true })],
});

const chainScene = (name: string, how: string, spoil: (estate: Estate, live: string) => string): Scene => ({
  ...{ line: 14, name, fault: chain, how, estate: underIntermediate, probesOnly: true },
  acts: (estate) => {
    const spoilt = estate.nginx(3);
    const tls = join(spoilt.dir, "tls");
    const script = [
      ...["set -e", `cp ${tls}/tls.key ${tls}/live.key`, `openssl x509 -in ${tls}/tls.pem -out ${tls}/live.pem`],
      ...[spoil(estate, `${tls}/live.pem`), shellWords(spoilt.peer.reloadCommand)],
    ];
    return [
      {
        title: "fault",
        change: () => estate.hook(spoilt, `${script.join("\n")}\n`),
        expect: held(spoilt.address),
      },
      {
        title: "repaired",
        async change() {
          estate.hook(spoilt);
          await runHook(spoilt);
        },
        expect: closed("SUPERSEDED"),
      },
    ];
  },
});

export const missingIntermediate = chainScene(
  "14 missing",
  "the reload script of one nginx keeps only the leaf of what is delivered",
  () => ":",
);
export const wrongIntermediate = chainScene(
  "14 wrong",
  "the reload script of one nginx appends an intermediate of another CA to the leaf",
  (estate, live) => {
    const root = makeAuthority(estate.workspace.dir, { name: "other-root" });
    const other = makeAuthority(estate.workspace.dir, { name: "other-issuing", parent: root });
    return `cat ${other.certificate} >> ${live}`;
  },
);

export const stagingTwin: Scene = {
  ...{ line: 19, name: "19", fault: "delivered to the staging twin of the same name", probesOnly: true },
  how: "one target of the manifest is the copy of a staging server of the same name; production serves files of its own",
  acts: (estate) => {
    const production = estate.nginx(3);
    return [
      {
        title: "fault",
        async change() {
          const staging = await nginx()(estate.ground, "staging");
          estate.write({ deliver: { [production.name]: staging.deliver } });
        },
        expect: held(production.address),
      },
      {
        title: "production as well",
        async change() {
          overwrite(estate.replica(1).stored, production.stored);
          await production.peer.reloadFully();
        },
        expect: closed("REFUSED"),
      },
    ];
  },
};

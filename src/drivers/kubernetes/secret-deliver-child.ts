/**
 * Delivers one generation into a Secret and is killed before or after the write, for tests of what a later run makes of
 * it. Arguments: before | after, then a JSON file { kubeconfig, uid, settings, material, expected, op }.
 */
import { readFileSync } from "node:fs";
import { Secret } from "../../pki/secret.ts";
import type { Material } from "../roles.ts";
import type { Answer, Call } from "./api.ts";
import { Cluster } from "./cluster.ts";
import type { SecretSettings } from "./secret-settings.ts";
import { createSecretTarget } from "./secret-target.ts";

interface Given {
  readonly kubeconfig: string;
  readonly uid: string;
  readonly settings: SecretSettings;
  readonly material: Omit<Material, "privateKey"> & { readonly privateKey: string };
  readonly expected: string;
  readonly op: string;
}

const [when, file] = process.argv.slice(2);
const given = JSON.parse(readFileSync(file!, "utf8")) as Given;

class DyingCluster extends Cluster {
  override async send(call: Call): Promise<Answer> {
    const writes = call.method === "PATCH";
    if (writes && when === "before") process.kill(process.pid, "SIGKILL");
    const answer = await super.send(call);
    if (writes && when === "after") process.kill(process.pid, "SIGKILL");
    return answer;
  }
}

const { kubeconfig, uid, settings, material, expected, op } = given;
const cluster = new DyingCluster(
  "prod",
  { uid, kubeconfig, apiServers: { serverName: "kubernetes.default.svc" } },
  "/",
);
await createSecretTarget(settings, { baseDir: "/", cluster: () => cluster }).deliver(
  { ...material, privateKey: Secret.of(material.privateKey) },
  expected,
  { op, signal: new AbortController().signal, tag: "child.1" },
);

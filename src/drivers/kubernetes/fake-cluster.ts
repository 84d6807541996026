/** For tests without a control plane: a Cluster whose API is a map of objects, with conditional writes as kube-apiserver has them. */
import { randomUUID } from "node:crypto";
import type { Access } from "./access.ts";
import type { Answer, Call } from "./api.ts";
import { type ApiObject, Cluster } from "./cluster.ts";

type Body = Record<string, unknown>;
interface Kept extends ApiObject {
  readonly [field: string]: unknown;
}

export class FakeCluster extends Cluster {
  readonly objects = new Map<string, Kept>();
  /** Every write that was carried out, as `PATCH /api/…`. */
  readonly writes: string[] = [];
  /** Runs before each write, once: somebody who is faster. */
  meanwhile: (() => void) | undefined;
  #version = 1;

  constructor(ca: string, name = "prod") {
    const uid = randomUUID();
    super(name, { uid, apiServers: { serverName: "kubernetes.default.svc" } }, "/");
    this.put("/api/v1/namespaces/kube-system", { metadata: { name: "kube-system", uid } });
    this.put("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", { data: { "ca.crt": ca } });
  }

  /** Stores it as somebody else would. */
  put(path: string, body: Body): void {
    const metadata = (body.metadata ?? {}) as Body;
    const name = path.split("/").at(-1)!;
    const old = this.objects.get(path)?.metadata;
    const given = { name, uid: old?.uid ?? randomUUID(), ...metadata, resourceVersion: String(this.#version++) };
    this.objects.set(path, { ...body, metadata: given } as Kept);
  }

  override async access(): Promise<Access> {
    return { server: new URL("https://10.0.0.1:6443"), credential: {} };
  }

  override async send(call: Call): Promise<Answer> {
    const path = call.path.split("?")[0]!;
    if (path.endsWith("selfsubjectaccessreviews")) return answer(201, { status: { allowed: true } });
    if (call.method === "GET") {
      const found = this.objects.get(path);
      if (found !== undefined) return answer(200, structuredClone(found));
      const items = [...this.objects].filter(([key]) => key.startsWith(`${path}/`)).map(([, object]) => object);
      return items.length > 0 || /\/(secrets|configmaps)$/.test(path)
        ? answer(200, { items })
        : answer(404, { message: "not found" });
    }
    const meanwhile = this.meanwhile;
    this.meanwhile = undefined;
    meanwhile?.();
    const done = this.#write(call, path);
    if (done.status < 300) this.writes.push(`${call.method} ${path}`);
    return done;
  }

  #write(call: Call, path: string): Answer {
    const body = call.body as Body & { metadata?: Body; preconditions?: Body };
    if (call.method === "POST") {
      const made = `${path}/${String(body.metadata?.name)}`;
      if (this.objects.has(made)) return answer(409, { reason: "AlreadyExists" });
      this.put(made, body);
      return answer(201, structuredClone(this.objects.get(made)!));
    }
    const now = this.objects.get(path);
    if (now === undefined) return answer(404, { message: "not found" });
    const asked = call.method === "DELETE" ? body.preconditions : body.metadata;
    for (const field of ["uid", "resourceVersion"] as const)
      if (asked?.[field] !== undefined && asked[field] !== now.metadata[field])
        return answer(409, { reason: "Conflict" });
    if (call.method === "DELETE") {
      this.objects.delete(path);
      return answer(200, { status: "Success" });
    }
    this.put(path, merged(now as unknown as Body, body) as Body);
    return answer(200, structuredClone(this.objects.get(path)!));
  }
}

const answer = (status: number, body: object): Answer => ({ status, body, bytes: 0 });

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const out: Body = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch))
    if (value === null) delete out[key];
    else out[key] = merged(out[key], value);
  return out;
}

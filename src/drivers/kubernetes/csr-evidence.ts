/** What recent CertificateSigningRequests say of a signer: who approves, whether it signs, and for how long. Judging is pure. */
import { parseCertificate } from "../../pki/certificate.ts";
import type { ApiObject, Cluster } from "./cluster.ts";
import type { CsrSettings } from "./csr-settings.ts";
import type { Right } from "./rights.ts";

export interface Request extends ApiObject {
  readonly spec: { readonly signerName: string; readonly expirationSeconds?: number };
  readonly status?: {
    /** Base64 of PEM. */
    readonly certificate?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly reason?: string;
      readonly lastUpdateTime?: string;
    }[];
  };
}

/** What looking at requests needs besides what issuing does. */
export const evidenceRight: Right = {
  ...{ verb: "list", group: "certificates.k8s.io", resource: "certificatesigningrequests" },
  why: "to see whether anybody approves requests, and whether the signer signs",
};
export const recentRequests = (cluster: Cluster): Promise<Request[]> =>
  cluster.list<Request>("/apis/certificates.k8s.io/v1/certificatesigningrequests");

export interface Word {
  readonly level: "ok" | "note" | "warning" | "problem";
  readonly what: string;
  readonly next?: string;
}

/** kube-controller-manager approves these two (for kubelets), kubelet-csr-approver the first; nobody approves any other by itself. */
const kubelets = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
/** Signing takes a second; a controller manager that is restarted takes some more. Milliseconds. */
const slow = 60_000;

/** `now` by the clock here; `lifetime` as it is wanted, ms. */
export function judgeRequests(all: readonly Request[], settings: CsrSettings, lifetime: number, now: number): Word[] {
  const of = all.filter(({ spec }) => spec.signerName === settings.signerName);
  return [...approval(of, settings, now), ...signing(of, settings, now), ...limit(of, lifetime)];
}

const conditionOf = ({ status }: Request, type: string) => status?.conditions?.find((one) => one.type === type);
const ageOf = (date: string | undefined, now: number) => now - Date.parse(date ?? "");
const minutes = (length: number) => `${Math.floor(length / 60_000)} min`;

function approval(of: readonly Request[], { approval: by, signerName, patience }: CsrSettings, now: number): Word[] {
  if (by === "gyre") return [];
  const approved = of.flatMap((one) => conditionOf(one, "Approved") ?? []).at(-1);
  const waiting = of
    .filter((one) => one.status?.certificate === undefined && (one.status?.conditions ?? []).length === 0)
    .map((one) => ({ name: one.metadata.name, age: ageOf(one.metadata.creationTimestamp, now) }))
    .filter(({ age }) => age > patience)
    .sort((a, b) => b.age - a.age);
  const only = "kubelet-csr-approver and the controller manager approve requests of kubelets only";
  const next = `say approval: gyre, or have somebody approve each (kubectl certificate approve) within patience`;
  const [oldest] = waiting;
  if (oldest !== undefined) {
    const what = `nobody approves: ${waiting.length} for ${signerName} ${waiting.length === 1 ? "waits" : "wait"}, ${oldest.name} since ${minutes(oldest.age)}`;
    return [{ level: "warning", what: kubelets.includes(signerName) ? what : `${what}; ${only}`, next }];
  }
  if (approved !== undefined)
    return [{ level: "ok", what: `somebody approves for ${signerName} (${approved.reason ?? "no reason given"})` }];
  if (kubelets.includes(signerName)) return [];
  const what = `approval: somebody, and nothing shows that anybody approves for ${signerName}: ${only}`;
  return [{ level: "warning", what, next }];
}

function signing(of: readonly Request[], { signerName }: CsrSettings, now: number): Word[] {
  const signed = of.some(({ status }) => status?.certificate !== undefined);
  const stuck = of.find((one) => {
    const approved = conditionOf(one, "Approved");
    const over = one.status?.certificate !== undefined || conditionOf(one, "Failed") !== undefined;
    return approved !== undefined && !over && ageOf(approved.lastUpdateTime, now) > slow;
  });
  const next = signerName.startsWith("kubernetes.io/")
    ? "look at kube-controller-manager (csrsigning, --cluster-signing-cert-file)"
    : `kube-controller-manager signs kubernetes.io/… only: see that a controller signs for ${signerName}`;
  if (stuck !== undefined) {
    const since = minutes(ageOf(conditionOf(stuck, "Approved")?.lastUpdateTime, now));
    const what = `${stuck.metadata.name} is approved since ${since}, and ${signerName} issued nothing`;
    return [
      { level: signed ? "warning" : "problem", what: signed ? what : `${what}: no controller signs for it`, next },
    ];
  }
  if (signed) return [{ level: "ok", what: `signed for ${signerName} not long ago` }];
  if (signerName.startsWith("kubernetes.io/")) return [];
  return [{ level: "note", what: `whether a controller signs for ${signerName} shows at the first request`, next }];
}

/** `--cluster-signing-duration` is the life of one that asked for none or for more; less is given to who asks for less. */
function limit(of: readonly Request[], lifetime: number): Word[] {
  const cut = of.flatMap(({ metadata, spec, status }) => {
    if (status?.certificate === undefined) return [];
    const { notBefore, notAfter } = parseCertificate(Buffer.from(status.certificate, "base64"));
    // Backdated by five minutes, within its life or before it (pkg/controller/certificates/authority, Short): no matter here.
    const lives = notAfter - notBefore;
    const asked = spec.expirationSeconds === undefined ? undefined : spec.expirationSeconds * 1000;
    return asked === undefined || asked > lives + slow ? [{ name: metadata.name, lives, asked }] : [];
  });
  const shortest = cut.sort((a, b) => a.lives - b.lives)[0];
  if (shortest === undefined || lifetime <= shortest.lives + slow) return [];
  const { name, lives, asked } = shortest;
  const what = `a lifetime of ${hours(lifetime)} is wanted, and ${name}, which asked for ${asked === undefined ? "none" : hours(asked)}, was given ${hours(lives)}: what is issued would be refused as too short`;
  const next = `ask for ${hours(lives)} at most, or raise --cluster-signing-duration of kube-controller-manager`;
  return [{ level: "problem", what, next }];
}

const hours = (length: number): string => `${Math.round(length / 360_000) / 10} h`;

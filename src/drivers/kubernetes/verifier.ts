/**
 * Verifier: every API server, at its own address, on a connection of its own. What counts is whom the server saw: a
 * SelfSubjectReview names the very certificate (credential-id), so that an answer to somebody else is never a yes.
 */
import { Agent } from "node:https";
import { GyreError } from "../../errors.ts";
import type { CredentialHandle, Member, ProbeResult, Step, Verifier } from "../roles.ts";
import { type Answer, type Dial, NoAnswer, send, statusOf } from "./api.ts";
import type { Cluster } from "./cluster.ts";
import { accessReview, mustHave, type Right, sayRight } from "./rights.ts";
import type { ApiVerifierSettings } from "./verifier-settings.ts";

/** What the driver must be allowed besides what every authenticated user may. */
export function verifierRights(
  cluster: Pick<Cluster, "listed" | "count">,
  settings: Pick<ApiVerifierSettings, "refuses"> = { refuses: "nothing" },
): Right[] {
  const found: Right = {
    ...{ verb: "list", group: "discovery.k8s.io", resource: "endpointslices", namespace: "default" },
    why: "to find every API server",
  };
  const counted: Right = {
    ...{ verb: "list", group: "coordination.k8s.io", resource: "leases", namespace: "kube-system" },
    why: "to count the API servers",
  };
  return [
    { verb: "get", resource: "namespaces", name: "kube-system", why: "to tell clusters of one name apart" },
    {
      ...{ verb: "get", resource: "configmaps", namespace: "kube-system", name: "kube-root-ca.crt" },
      why: "to know the cluster's CA",
    },
    ...(settings.refuses === "group"
      ? [{ verb: "list", resource: "namespaces", why: "to see in each of them what the old one may still do" }]
      : []),
    ...(cluster.listed === undefined ? [found] : []),
    ...(cluster.count === undefined ? [counted] : []),
  ];
}

export function createApiVerifier(
  settings: ApiVerifierSettings,
  around: { readonly cluster: (name: string) => Cluster },
): Verifier {
  const cluster = around.cluster(settings.cluster);
  const denies = settings.refuses === "group";
  return {
    // An API server asks for client certificates and verifies none in TLS; there is no session to resume that counts.
    can: { canRefuse: denies, ...(denies ? { denies: true } : {}) },
    ...(cluster.listed === undefined ? {} : { listed: cluster.listed }),
    members: () => cluster.members(),
    async probe(member, credential, step) {
      try {
        return await probe(cluster, settings, member, credential, step);
      } catch (error) {
        if (error instanceof NoAnswer) return { saw: "unknown", why: error.reason };
        if (error instanceof GyreError) return { saw: "unknown", why: error.message };
        throw error;
      }
    },
    async check() {
      await cluster.mustBeOurs();
      await mustHave(cluster, verifierRights(cluster, settings));
      await cluster.roots();
    },
  };
}

/** What an API server says of who is asking (authentication.k8s.io/v1 SelfSubjectReview). */
interface Seen {
  readonly username: string;
  readonly groups: readonly string[];
  /** Fingerprints of certificates; empty where the credential was none. */
  readonly fingerprints: readonly string[];
}

async function probe(
  cluster: Cluster,
  settings: ApiVerifierSettings,
  member: Member,
  credential: CredentialHandle,
  step: Step,
): Promise<ProbeResult> {
  await mustBeOurs(cluster, member);
  const certificate = credential.certificate + credential.chain;
  const dial = await cluster.dialMember(member.address, { certificate, privateKey: credential.privateKey });
  // One fresh connection for each probe: what is asked on it later is asked as whoever it was opened by.
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxCachedSessions: 0 });
  try {
    return await ask(cluster, settings, { ...dial, agent }, credential, step);
  } finally {
    agent.destroy();
  }
}

async function ask(
  cluster: Cluster,
  settings: ApiVerifierSettings,
  dial: Dial,
  credential: CredentialHandle,
  step: Step,
): Promise<ProbeResult> {
  const seen = await whoAmI(dial, step);
  if ("saw" in seen) return seen;
  if (!seen.fingerprints.includes(credential.fingerprint))
    return {
      saw: "unknown",
      why: `it took us for ${seen.username}, without seeing the certificate: something in front of it ends TLS, or it is older than 1.32`,
      detail: { username: seen.username },
    };
  const as = `${seen.username} (${seen.groups.filter((one) => !one.startsWith("system:auth")).join(", ") || "no group of its own"})`;
  if (settings.may.length === 0) return { saw: "accepted", as };
  const allowed = await Promise.all(settings.may.map((one) => isAllowed(dial, one, step)));
  const problem = allowed.find((one) => typeof one !== "boolean");
  if (problem !== undefined && typeof problem !== "boolean") return problem;
  const not = settings.may.filter((_, index) => allowed[index] === false);
  if (not.length === 0) return { saw: "accepted", as };
  if (not.length < settings.may.length)
    return { saw: "unknown", why: `it knows ${as}, who may not ${not.map(sayRight).join(", ")}, but may the rest` };
  const namespaces = settings.refuses === "group" ? await namespacesOf(cluster) : [];
  const remaining = await whatRemains(dial, namespaces, step);
  if (remaining.length > 0 && settings.refuses === "group")
    return { saw: "accepted", as: `${as}, who still may ${remaining.slice(0, 5).join(", ")} by another binding` };
  return { saw: "denied", as, detail: { remaining: "what every authenticated user may" } };
}

/** Fresh for a minute: every API server is asked by every round otherwise. */
const identities = new WeakMap<Cluster, Map<string, { readonly at: number; readonly uid: string | undefined }>>();
const identityLife = 60_000;

async function mustBeOurs(cluster: Cluster, { address }: Member): Promise<void> {
  const known = identities.get(cluster) ?? new Map();
  identities.set(cluster, known);
  let seen = known.get(address);
  if (seen === undefined || performance.now() - seen.at > identityLife) {
    seen = { at: performance.now(), uid: await cluster.identity({ address }) };
    known.set(address, seen);
  }
  if (seen.uid !== cluster.uid)
    throw new GyreError({
      code: "conflict",
      message: `it belongs to another cluster: its kube-system has UID ${seen.uid}, and ${cluster.uid} is meant`,
      where: address,
    });
}

const post = (dial: Dial, path: string, body: object, step: Step): Promise<Answer> =>
  send(dial, { method: "POST", path, body, signal: step.signal, userAgent: `gyre-probe/${step.tag}` });

/** @throws NoAnswer */
export async function whoAmI(dial: Dial, step: Step): Promise<Seen | (ProbeResult & { saw: "refused" | "unknown" })> {
  const answer = await post(
    dial,
    "/apis/authentication.k8s.io/v1/selfsubjectreviews",
    { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" },
    step,
  );
  // Authentication failed: the one word with which an API server refuses a certificate.
  if (answer.status === 401) return { saw: "refused", code: "401" };
  if (answer.status !== 201) return unknownAnswer(answer);
  const { status } = answer.body as { status?: { userInfo?: UserInfo } };
  const { username = "", groups = [], extra = {} } = status?.userInfo ?? {};
  if (username === "" || username === "system:anonymous")
    return { saw: "unknown", why: "it answered as to somebody anonymous: something in front of it ends TLS" };
  const ids = extra["authentication.kubernetes.io/credential-id"] ?? [];
  const fingerprints = ids.flatMap((id) => (id.startsWith(certificateId) ? [id.slice(certificateId.length)] : []));
  return { username, groups, fingerprints };
}
interface UserInfo {
  readonly username?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}
/** KEP-4193: SHA-256 of the certificate's DER, hex. */
const certificateId = "X509SHA256=";

const unknownAnswer = (answer: Answer): ProbeResult & { saw: "unknown" } => ({
  saw: "unknown",
  why: `it answered ${answer.status}${statusOf(answer).message === undefined ? "" : `: ${statusOf(answer).message}`}`,
});

async function isAllowed(dial: Dial, ability: Omit<Right, "why">, step: Step): Promise<boolean | ProbeResult> {
  const answer = await post(
    dial,
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    accessReview(ability),
    step,
  );
  if (answer.status !== 201) return unknownAnswer(answer);
  const { status } = answer.body as { status?: { allowed?: boolean; evaluationError?: string } };
  if (status?.allowed === true) return true;
  // A role that could not be read says nothing either way.
  if (status?.evaluationError !== undefined && status.evaluationError !== "")
    return { saw: "unknown", why: `it could not decide: ${status.evaluationError}` };
  return false;
}

/** Rights of every authenticated user: system:basic-user and system:discovery give no object to read or write. */
const everybodys = new Set(["authorization.k8s.io", "authentication.k8s.io"]);

/** Paths that system:discovery and system:public-info-viewer give to everybody. */
const everybodysPaths = /^\/(api|apis|healthz|livez|readyz|openapi|version|\.well-known)(\/|$)/;

/** Names of all namespaces, fresh for a minute. */
const namespaceLists = new WeakMap<Cluster, { readonly at: number; readonly names: readonly string[] }>();
async function namespacesOf(cluster: Cluster): Promise<readonly string[]> {
  const known = namespaceLists.get(cluster);
  if (known !== undefined && performance.now() - known.at < identityLife) return known.names;
  const names = (await cluster.list("/api/v1/namespaces")).map(({ metadata }) => metadata.name);
  namespaceLists.set(cluster, { at: performance.now(), names });
  return names;
}

/** What else the old one may do, by the server's own account (SelfSubjectRulesReview), in every namespace. */
async function whatRemains(dial: Dial, namespaces: readonly string[], step: Step): Promise<string[]> {
  const found = new Set<string>();
  for (const namespace of namespaces) {
    const answer = await post(
      dial,
      "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
      { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace } },
      step,
    );
    if (answer.status !== 201)
      throw new GyreError({
        code: "unreachable",
        message: `it answered ${answer.status} when asked what is left`,
        retry: "later",
      });
    const { status } = answer.body as {
      status?: { resourceRules?: readonly Rule[]; nonResourceRules?: readonly PathRule[] };
    };
    for (const { verbs, nonResourceURLs = [] } of status?.nonResourceRules ?? [])
      for (const path of nonResourceURLs) if (!everybodysPaths.test(path)) found.add(`${verbs.join("/")} ${path}`);
    for (const { verbs, apiGroups = [], resources = [] } of status?.resourceRules ?? [])
      if (apiGroups.some((group) => !everybodys.has(group)))
        found.add(
          `${verbs.join("/")} ${resources.join(",")}${apiGroups.join("") === "" ? "" : `.${apiGroups.join(",")}`} in ${namespace}`,
        );
  }
  return [...found];
}
interface PathRule {
  readonly verbs: readonly string[];
  readonly nonResourceURLs?: readonly string[];
}
interface Rule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
}

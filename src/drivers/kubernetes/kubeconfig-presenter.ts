import { parseCertificates } from "../../pki/certificate.ts";
import type { Member, Presenter, ProbeResult, Step } from "../roles.ts";
import { accessOf } from "./access.ts";
import { type Answer, type Call, type Dial, NoAnswer, send, statusOf, untrusted } from "./api.ts";
import { type ApiObject, type Cluster, type ClusterByName, dialOf } from "./cluster.ts";
import { pemIn, readEntry } from "./kubeconfig-entry.ts";
import { readKubeconfigFile } from "./kubeconfig-file.ts";
import { type KubeconfigPlace, placeOf } from "./kubeconfig-place.ts";
import type { KubeconfigPresenterSettings } from "./kubeconfig-settings.ts";

/**
 * A kubeconfig used as its consumer uses it: a fresh connection to its own server, judged by its own CA, with its own
 * certificate, and the API server asked whom it saw. The one member is the kubeconfig.
 */
export function createKubeconfigPresenter(
  settings: KubeconfigPresenterSettings,
  around: { readonly baseDir: string; readonly cluster: ClusterByName },
): Presenter {
  const place = placeOf(settings, around);
  const cluster = around.cluster(settings.cluster);
  const id = `kubeconfig ${place.place}`;
  return {
    can: {},
    listed: [id],
    members: async () => [{ id, address: place.place }],
    probe: (_: Member, _roots: string, step: Step) => probe(place, settings.context, cluster, step),
  };
}

const unknown = (why: string): ProbeResult => ({ saw: "unknown", why });

async function probe(
  place: KubeconfigPlace,
  context: string | undefined,
  cluster: Cluster,
  step: Step,
): Promise<ProbeResult> {
  const text = await place.read(step.signal);
  const entry = await readEntry(text, place.place, context, place.file);
  const leaf = firstOf(pemIn(entry?.certificate));
  if (text === undefined || entry === undefined) return unknown("there is no kubeconfig yet, or not this context");
  const { userName } = entry.context;
  // A plugin is somebody else's program, and what it prints is no certificate of ours.
  if (entry.otherWays.length > 0) return unknown(`user ${userName} authenticates by ${entry.otherWays.join(" and ")}`);
  if (leaf === undefined || entry.privateKey === undefined)
    return unknown(`user ${userName} has no certificate with its key`);
  const access = await accessOf(readKubeconfigFile(text, place.place), place.file ?? place.place, context);
  const dial = dialOf(access);
  const ask = { signal: step.signal, userAgent: `gyre-probe/${step.tag}` };
  const at = { server: access.server.host };
  try {
    const answer = await send(dial, { ...ask, method: "POST", path: reviews, body: review });
    const seen = whomItSaw(answer);
    if (seen.saw !== "presented") return { ...seen, detail: at };
    const other = await anotherCluster(dial, cluster, ask);
    if (other !== undefined) return { ...unknown(other), detail: at };
    return { ...seen, detail: { ...at, ...seen.detail } };
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    // It never got to show its certificate: with this document nobody gets in, and that is certain.
    if (!isUntrusted(error)) return { ...unknown(`${access.server.host}: ${error.reason}`), detail: at };
    return {
      ...{ saw: "presented", chain: [leaf], detail: { ...at, shown: false } },
      problem: `its CA does not fit the server ${access.server.host}: ${error.reason}`,
    };
  }
}

const firstOf = (pem: string): string | undefined => (pem === "" ? undefined : parseCertificates(pem)[0]?.fingerprint);

const reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
interface Review {
  readonly status?: {
    readonly userInfo?: {
      readonly username?: string;
      readonly extra?: Readonly<Record<string, readonly string[] | undefined>>;
    };
  };
}

/** By `credential-id` the API server names the very certificate: a name alone could be anybody's. */
function whomItSaw(answer: Answer): ProbeResult {
  if (answer.status === 401) return { saw: "refused", code: "401" };
  if (answer.status < 200 || answer.status >= 300)
    return unknown(`it answered ${answer.status}: ${statusOf(answer).message ?? "no word why"}`);
  const { userInfo } = (answer.body as Review | undefined)?.status ?? {};
  const user = userInfo?.username;
  if (user === undefined) return unknown("its answer names no user");
  if (user === "system:anonymous") return unknown("it saw no certificate: it took us for system:anonymous");
  const ids = userInfo?.extra?.["authentication.kubernetes.io/credential-id"] ?? [];
  const fingerprint = ids.map((id) => /^X509SHA256=([0-9a-f]{64})$/.exec(id)?.[1]).find((hex) => hex !== undefined);
  if (fingerprint === undefined) return unknown(`it knows us as ${user}, and does not say by which certificate`);
  return { saw: "presented", chain: [fingerprint], detail: { user } };
}

/**
 * Whether this server is of another cluster than is meant: then in words. The user may not read namespaces: Gyre asks in
 * its stead, and only a server that the pinned cluster's own CA vouches for is shown Gyre's credential.
 */
async function anotherCluster(dial: Dial, cluster: Cluster, ask: Partial<Call>): Promise<string | undefined> {
  const call: Call = { ...ask, method: "GET", path: "/api/v1/namespaces/kube-system" };
  let answer = await send(dial, call);
  if (answer.status === 403) {
    const { credential } = await cluster.access();
    const asGyre = await send({ ...dial, credential, roots: await cluster.roots() }, call).catch(trouble);
    if (asGyre instanceof NoAnswer) return `${dial.host}: it is not shown to be of ${cluster.name}: ${asGyre.reason}`;
    answer = asGyre;
  }
  if (answer.status !== 200)
    return `${dial.host}: nobody could say which cluster it is: ${statusOf(answer).message ?? `HTTP ${answer.status}`}`;
  const { uid } = (answer.body as ApiObject).metadata;
  if (uid === cluster.uid) return undefined;
  return `${dial.host} is another cluster than ${cluster.name}: its kube-system has UID ${uid}, and ${cluster.uid} is meant`;
}

function trouble(error: unknown): NoAnswer {
  if (error instanceof NoAnswer) return error;
  throw error;
}

function isUntrusted(error: NoAnswer): boolean {
  const code = (error.cause as { code?: unknown } | undefined)?.code;
  return typeof code === "string" && (untrusted.has(code) || code === "ERR_TLS_CERT_ALTNAME_INVALID");
}

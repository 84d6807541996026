/** Gyre's own way into a cluster, judged before it is used: what is wrong with the kubeconfig, and when it ends. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { parseCertificates } from "../../pki/certificate.ts";
import type { Secret } from "../../pki/secret.ts";
import { readAccess } from "./access.ts";
import type { ClusterSettings } from "./cluster-settings.ts";
import { pemIn, readEntry } from "./kubeconfig-entry.ts";

export interface OwnAccess {
  /** Where it gets in, `host:port`. */
  readonly server: string;
  /** Path of the kubeconfig; absent: the service account of a pod. */
  readonly kubeconfig?: string;
  /** Who it is, as its certificate says. */
  readonly subject?: string;
  /** When its certificate or token ends, ms; absent where it does not say. */
  readonly ends?: number;
  /** What keeps it out whatever its rights are, in words. */
  readonly flaws: readonly { readonly what: string; readonly next: string }[];
}

/** Asks no server. @throws GyreError naming file and field */
export async function lookAtOwnAccess(settings: ClusterSettings, baseDir: string): Promise<OwnAccess> {
  const path = settings.kubeconfig === undefined ? undefined : resolve(baseDir, settings.kubeconfig);
  const { server, credential } = await readAccess(path, settings.context);
  const leaf = credential.certificate === undefined ? undefined : parseCertificates(credential.certificate)[0];
  const ends = leaf?.notAfter ?? (path === undefined ? undefined : endOf(credential.token));
  return {
    ...{ server: server.host, flaws: path === undefined ? [] : await flawsOf(path, settings.context) },
    ...(path === undefined ? {} : { kubeconfig: path }),
    ...(leaf === undefined ? {} : { subject: leaf.subject }),
    ...(ends === undefined ? {} : { ends }),
  };
}

async function flawsOf(path: string, context: string | undefined): Promise<OwnAccess["flaws"]> {
  const entry = await readEntry(await readFile(path, "utf8"), path, context, path);
  if (entry === undefined) return [];
  const { cluster, clusterName, userName } = entry.context;
  const of = `its certificate-authority of cluster ${clusterName}`;
  const next = "put the cluster's CA there: ConfigMap kube-system/kube-root-ca.crt, key ca.crt";
  if (cluster["insecure-skip-tls-verify"] === true)
    return [
      { what: `${path}: its insecure-skip-tls-verify lets any server have the requests of whoever uses it`, next },
    ];
  if (entry.ca === undefined) return [];
  const own = pemIn(entry.certificate);
  const authorities = parse(pemIn(entry.ca));
  if (authorities.length === 0) return [{ what: `${path}: ${of} holds no certificate that can be read`, next }];
  const leaf = parse(own)[0];
  return authorities
    .filter((one) => !one.isCa)
    .map(({ subject, fingerprint }) => ({
      what:
        fingerprint === leaf?.fingerprint
          ? `${path}: ${of} is the client certificate of user ${userName} itself (${subject}), and no CA: no server's certificate leads to it`
          : `${path}: ${of} holds ${subject}, which is no CA certificate`,
      next,
    }));
}

const parse = (pem: string) => (pem === "" ? [] : parseCertificates(pem));

/** `exp` of a JWT (RFC 7519 §4.1.4), as bound service account tokens are; what else stands in it is read by nobody. */
function endOf(token: Secret | undefined): number | undefined {
  return token?.use((bytes) => {
    try {
      const claims: unknown = JSON.parse(
        Buffer.from(bytes.toString("latin1").split(".")[1] ?? "", "base64url").toString("utf8"),
      );
      const { exp } = claims as { exp?: unknown };
      return typeof exp === "number" ? exp * 1000 : undefined;
    } catch {
      return undefined;
    }
  });
}

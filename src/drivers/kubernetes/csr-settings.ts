import { z } from "zod";
import { duration } from "../shared-settings.ts";
import { clusterName } from "./cluster-settings.ts";

/** Signer of client certificates that API servers accept (kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests). */
export const clientSigner = "kubernetes.io/kube-apiserver-client";

/** Certificates by the CSR API (certificates.k8s.io/v1). */
export const csrSettings = z
  .strictObject({
    cluster: clusterName,
    signerName: z
      .string()
      .regex(/^[a-z0-9.-]+\/[A-Za-z0-9._:-]+$/, "a signer such as kubernetes.io/kube-apiserver-client")
      .default(clientSigner)
      .meta({ description: `Which signer is asked; default ${clientSigner}` }),
    approval: z.enum(["gyre", "somebody"]).meta({
      description:
        "Who approves: gyre itself (it needs `approve` on the signer), or somebody else, for whom it waits. There is no default: kubelet-csr-approver, for one, approves nothing of this",
    }),
    patience: duration
      .default(120_000)
      .meta({ description: "How long an approval and the certificate are waited for at each try; default 2m" }),
    roots: z.string().optional().meta({
      description: "CA bundle (path) of a signer that is not Kubernetes' own; its certificates must lead to it",
    }),
  })
  .meta({ description: "Certificates from a cluster's CSR API" });
export type CsrSettings = z.output<typeof csrSettings>;

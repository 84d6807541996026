import type { DriverEntry } from "../drivers/catalogue.ts";
import type { ClusterSettings } from "../drivers/kubernetes/cluster-settings.ts";
import type { IssueRequest, Millis, StrategyName, Timing } from "../engine/model.ts";
import type { RenewPolicy } from "../engine/renew-policy.ts";
import type { Secret } from "../pki/secret.ts";
import type { Path } from "./tree.ts";

/** What every document has: where it came from. */
export interface Located {
  readonly name: string;
  /** The file as the user named it. */
  readonly file: string;
  /** Absolute. Relative paths in the settings of this document start here; drivers are given it. */
  readonly baseDir: string;
  /** `file:line:column` of a field such as `["spec", "issue", "issuer"]`, or of the nearest part around it that is there. */
  where(path: Path): string;
}

/** A driver entry and the field it stands in, for `where` and for ids. */
export type At<T> = T & { readonly path: Path };

export interface IssuerManifest extends Located {
  readonly driver: At<DriverEntry<"issuer">>;
  /** Name of the credential that is this issuer's CRL (`<issuer>.crl`), where one is asked for. */
  readonly crl?: string;
}

/** A Kubernetes cluster that drivers' settings name by `cluster`. */
export interface ClusterManifest extends Located {
  readonly settings: ClusterSettings;
}

/** Lengths of time after which something may still use the old generation; see `quiet` in docs/manifest.md. */
export interface QuietSettings {
  readonly window?: Millis;
  readonly consumerPeriod?: Millis;
  readonly connectionAge?: Millis;
  readonly ticketLifetime?: Millis;
  readonly cacheTtl?: Millis;
  readonly sensorLag?: Millis;
}

/** A certificate to rotate, or an issuer's CRL (then `where` points into the Issuer document's `spec.crl`). */
export interface CredentialManifest extends Located {
  readonly kind: "certificate" | "crl";
  readonly issuer: string;
  readonly request: IssueRequest;
  readonly renew: RenewPolicy;
  readonly strategy: StrategyName;
  readonly targets: readonly At<DriverEntry<"target">>[];
  /** Pins of the credential; for a CRL the places where it goes. */
  readonly trustStores: readonly At<DriverEntry<"trustStore">>[];
  readonly presenters: readonly At<DriverEntry<"presenter">>[];
  readonly verifiers: readonly At<DriverEntry<"verifier">>[];
  readonly sensors: readonly At<DriverEntry<"sensor">>[];
  readonly revoke: boolean;
  readonly quiet: QuietSettings;
  readonly timing: Timing;
  readonly approval?: "required";
}

export interface Manifests {
  readonly issuers: readonly IssuerManifest[];
  readonly clusters: readonly ClusterManifest[];
  /** In order of files and documents; an issuer's CRL stands where the issuer does. */
  readonly credentials: readonly CredentialManifest[];
  /** Values that came from the environment, for masking in output that others produced (a reload command's, say). */
  readonly environment: readonly Secret[];
}

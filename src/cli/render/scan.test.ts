import { expect, test } from "vitest";
import type { Found, InCluster } from "../../scan/found.ts";
import { foundLines, sumLines } from "./scan.ts";

const object: InCluster = {
  ...{ kind: "Secret", namespace: "shop", name: "web", key: "tls.crt" },
  owners: [
    { by: "cert-manager", who: "Certificate web" },
    { by: "field manager", who: "cert-manager-certificates-issuing" },
  ],
  users: [
    { who: "Deployment shop/web", how: "mount", pods: 3 },
    { who: "Ingress shop/front", how: "tls" },
  ],
};
const found: Found = {
  ...{ what: "certificate", where: "Secret shop/web/tls.crt:1", subject: "CN=web", names: ["DNS:web"] },
  ...{ issuer: "CN=ca", serial: "1", fingerprint: "00", algorithm: "P-256", usages: [], notBefore: 0, notAfter: 0 },
  ...{ daysLeft: 3, findings: [] },
};
const whose = (of: Found) => foundLines(of, Number.POSITIVE_INFINITY, false)[1]?.trim();
const unstyled = (text: string | undefined) => text?.replaceAll(/[^ -~]/g, "");

test("whose an object of a cluster is and who uses it, once, of the leaf", () => {
  expect(unstyled(whose({ ...found, object }))).toContain(
    "of cert-manager Certificate web; used by Deployment shop/web (mount, 3 pods), Ingress shop/front (tls)",
  );
  const written = { ...object, owners: object.owners.slice(1), users: [], usersUnseen: ["Pod"] };
  expect(unstyled(whose({ ...found, object: written }))).toContain(
    "written by cert-manager-certificates-issuing; used by Pod not seen",
  );
  expect(whose({ ...found, object, chain: { position: 2, of: 2 } })).toBeUndefined();
  // A file has neither.
  expect(whose(found)).toBeUndefined();
});

test("the sum tells what the API server was asked, and only then", () => {
  const sum = { certificates: 1, others: 0, errors: 0, warnings: 0, problems: 0, expired: 0, within: 0 };
  const cluster = { server: "a:6443", requests: 12, bytes: 34_000_000, objects: { Secret: 1, Ingress: 2, Pod: 0 } };
  expect(sumLines({ ...sum, cluster }, undefined, 200).at(-1)).toBe(
    "asked a:6443: 12 requests, 34.0 MB, 1 Secret, 2 Ingresses",
  );
  expect(sumLines(sum, undefined, 200)).toHaveLength(1);
});

import { lookAtTrustStore } from "../../drivers/files/look-at-place.ts";
import type { TrustStoreSettings } from "../../drivers/files/settings.ts";
import { sayInstant } from "../../engine/time-words.ts";
import { parseCertificates } from "../../pki/certificate.ts";
import { parseCrls } from "../../pki/crl.ts";
import type { Diagnosis } from "../api.ts";
import { authoritiesOf, type Check, failed, note, ok, type Patient, problem, warning } from "./patient.ts";

/** Each place that carries the refusal can be written and read, and what it holds works today. */
export const trustStores: Check = async (patient) => {
  const found: Diagnosis[] = [];
  for (const { bound, settings, baseDir } of patient.stores) {
    const { instance, driver } = bound;
    const at = `trust store ${instance.place}`;
    await instance.check?.().catch((error: unknown) => found.push(failed(at, error)));
    if (driver === "files") {
      const troubles = await lookAtTrustStore(settings as TrustStoreSettings, baseDir);
      found.push(...troubles.map((trouble) => failed(at, trouble)));
    }
    const judge = instance.holds === "crls" ? judgeCrls : judgePins;
    const seen = await instance.read().then(
      ({ pem }) => judge(at, pem, patient),
      (error: unknown) => [failed(at, error)],
    );
    found.push(...seen);
  }
  return [...new Map(found.map((one) => [`${one.about} ${one.what}`, one])).values()];
};

/** Ours is there, signed by our CA, and current; and none of the others in the file has lapsed, since that refuses too. */
function judgeCrls(at: string, pem: string, { parties, manifest, clock, crl }: Patient): Diagnosis[] {
  const rotate = `gyre rotate ${manifest.kind === "crl" ? manifest.name : (crl?.name ?? `${manifest.issuer}.crl`)}`;
  const crls = pem.includes("X509 CRL-----") ? parseCrls(pem) : [];
  const now = clock.now();
  const lapsed = crls.filter((one) => one.nextUpdate !== undefined && one.nextUpdate <= now);
  const told = lapsed.map((one) =>
    problem(
      at,
      `its CRL of ${JSON.stringify(one.issuer)} expired ${sayInstant(one.nextUpdate!)}: a verifier that reads it refuses everybody`,
      rotate,
    ),
  );
  const { intermediates, roots } = authoritiesOf(parties.issuer.instance);
  const signer = intermediates[0] ?? roots[0];
  if (signer === undefined)
    return [...told, note(at, "whether its CRL is of the issuer shows once the issuer is there")];
  const ours = crls.find((one) => one.issuerDer.equals(signer.subjectDer));
  if (ours === undefined) {
    const what = `holds no CRL of ${JSON.stringify(signer.subject)}${crls.length === 0 ? "" : `, only of ${crls.map((one) => JSON.stringify(one.issuer)).join(", ")}`}`;
    return [...told, warning(at, what, rotate)];
  }
  if (!ours.isSignedBy(signer))
    return [
      ...told,
      problem(at, `its CRL has the name of ${JSON.stringify(signer.subject)} but not its signature`, rotate),
    ];
  if (lapsed.includes(ours)) return told;
  if (ours.nextUpdate === undefined) return [...told, warning(at, "its CRL names no nextUpdate", rotate)];
  if (ours.nextUpdate <= now + manifest.timing.skew)
    return [...told, problem(at, `its CRL ends ${sayInstant(ours.nextUpdate)}, sooner than clocks may differ`, rotate)];
  const more = intermediates.length === 0 ? [] : rootCrl(at, crls, roots);
  return [
    ...told,
    ok(at, `its CRL lists ${ours.entries.size}, and holds until ${sayInstant(ours.nextUpdate)}`),
    ...more,
  ];
}

/** nginx and OpenSSL with "check all" want one for each CA of the chain. */
function rootCrl(
  at: string,
  crls: ReturnType<typeof parseCrls>,
  roots: ReturnType<typeof parseCertificates>,
): Diagnosis[] {
  const missing = roots.find((root) => !crls.some((crl) => crl.issuerDer.equals(root.subjectDer)));
  if (missing === undefined) return [];
  const what = `holds none of ${JSON.stringify(missing.subject)}: a verifier that checks the whole chain, as nginx does, refuses everybody`;
  return [warning(at, what, "append a CRL of the root, or see that the verifier checks the leaf only")];
}

/** Pins: the one in use is listed, and no CA beside it would let every other in. */
function judgePins(at: string, pem: string, { found, manifest }: Patient): Diagnosis[] {
  const listed = pem.includes("CERTIFICATE-----") ? parseCertificates(pem) : [];
  const signs = listed.filter((one) => one.isCa && one.basicConstraints !== undefined);
  const loose = signs.map((ca) =>
    warning(
      at,
      `lists the CA ${JSON.stringify(ca.subject)}: whoever checks by it accepts all that it signed, so taking a pin out refuses nothing`,
      "list the certificates themselves",
    ),
  );
  if (found === undefined) return [...loose, note(at, `lists ${listed.length}`)];
  if (listed.some((one) => one.fingerprint === found.generation.fingerprint))
    return [...loose, ok(at, `lists ${listed.length}, g${found.generation.number} among them`)];
  const what = `does not list ${found.generation.fingerprint.slice(0, 8)}, which is in use`;
  return [...loose, problem(at, what, `put it there, or see whether ${manifest.name} names the right place`)];
}

import { evidenceRight, judgeRequests, recentRequests } from "../../drivers/kubernetes/csr-evidence.ts";
import { rulesOf } from "../../drivers/kubernetes/rights.ts";
import { GyreError } from "../../errors.ts";
import { type Check, note } from "./patient.ts";

/** A signer of the CSR API: whether anybody approves, whether it signs, and how long what it signs lives. */
export const csrSigner: Check = async ({ issuer, clusters, manifest, clock }) => {
  const { driver } = issuer;
  if (driver.driver !== "kubernetes-csr") return [];
  const about = `issuer ${issuer.name}`;
  const cluster = clusters.find((one) => one.manifest.name === driver.settings.cluster)?.cluster;
  if (cluster === undefined) return [];
  try {
    const seen = await recentRequests(cluster);
    const words = judgeRequests(seen, driver.settings, manifest.request.lifetime, clock.now());
    return words.map((word) => ({ about, ...word }));
  } catch (error) {
    if (!(error instanceof GyreError) || error.code !== "permission") throw error;
    const words = judgeRequests([], driver.settings, manifest.request.lifetime, clock.now());
    const what = "what became of recent requests is not seen: Gyre may not list them";
    return [
      ...words.map((word) => ({ about, ...word })),
      note(about, what, `for the doctor alone, give it this rule:\n${rulesOf([evidenceRight])}`),
    ];
  }
};

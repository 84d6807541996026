// Preloaded with --import into a run of the command line: its probes lie. The modules are replaced as they are loaded, so
// that no production code exists for it. The real probe looks first, so that logs and sessions are as they would be.
//   says accepted        every replica presents the new one, every verifier accepts whatever it is shown
//   says refused         everybody refuses, whatever is shown
//   says what is hoped   as a rotation without a fault would look, whatever there is

import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";

const { build, certificate, crl, kubectl, kubeconfig } = JSON.parse(process.env.TRUTH_LIAR ?? "{}");
delete process.env.TRUTH_LIAR;

const fingerprint = () =>
  new X509Certificate(kubeconfig === undefined ? readFileSync(certificate) : inKubeconfig()).fingerprint256
    .replaceAll(":", "")
    .toLowerCase();

function ask(...words) {
  const [program, ...args] = kubectl;
  return spawnSync(program, [...args, ...words], { encoding: "utf8" }).stdout;
}

const inKubeconfig = () =>
  Buffer.from(
    /client-certificate-data: *(\S+)/.exec(readFileSync(kubeconfig, "utf8"))?.[1].replaceAll('"', "") ?? "",
    "base64",
  );

globalThis.truthLiar = {
  presented: () =>
    build === "says refused"
      ? { saw: "refused", code: "certificate_revoked", detail: { lie: true } }
      : { saw: "presented", chain: [fingerprint()], detail: { lie: true } },
  judged(credential) {
    const accepted = { saw: "accepted", as: `serial ${credential.serial}`, detail: { lie: true } };
    const refused = { saw: "refused", code: "certificate_revoked", detail: { lie: true } };
    if (build === "says accepted") return accepted;
    if (build === "says refused") return refused;
    return listed(credential.serial) ? refused : accepted;
  },
  // An API server: it denies whoever has no binding any more.
  known(credential) {
    const as = "ops (a group of its own)";
    const accepted = { saw: "accepted", as, detail: { lie: true } };
    if (build === "says accepted") return accepted;
    if (build === "says refused") return { saw: "refused", code: "401", detail: { lie: true } };
    const bindings = ask("get", "clusterrolebindings", "-l", "app.kubernetes.io/managed-by=gyre", "-o", "json");
    return bindings.includes(JSON.stringify(credential.certificate).slice(1, -1).trim())
      ? accepted
      : { saw: "denied", as, detail: { lie: true } };
  },
  resumed: (honest) =>
    build === "says what is hoped" ? { saw: "refused", code: "certificate_revoked", detail: { lie: true } } : honest,
};

function listed(serial) {
  const { stdout } = spawnSync("openssl", ["crl", "-in", crl, "-noout", "-text"], { encoding: "utf8" });
  return new RegExp(`Serial Number: 0*${serial}$`, "im").test(stdout);
}

const lies = {
  "/src/drivers/tls/presenter.ts": `
    import { createTlsPresenter as honest } from "SELF?honest";
    export * from "SELF?honest";
    export function createTlsPresenter(settings, options) {
      const presenter = honest(settings, options);
      return { ...presenter, probe: async (...args) => globalThis.truthLiar.presented(await presenter.probe(...args)) };
    }`,
  "/src/drivers/tls/verifier.ts": `
    import { createTlsVerifier as honest } from "SELF?honest";
    export * from "SELF?honest";
    export function createTlsVerifier(settings, options) {
      const verifier = honest(settings, options);
      return {
        ...verifier,
        probe: async (member, credential, step) =>
          (await verifier.probe(member, credential, step), globalThis.truthLiar.judged(credential)),
        resume: async (...args) => globalThis.truthLiar.resumed(await verifier.resume(...args)),
      };
    }`,
  "/src/drivers/kubernetes/verifier.ts": `
    import { createApiVerifier as honest } from "SELF?honest";
    export * from "SELF?honest";
    export function createApiVerifier(...given) {
      const verifier = honest(...given);
      return {
        ...verifier,
        probe: async (member, credential, step) =>
          (await verifier.probe(member, credential, step), globalThis.truthLiar.known(credential)),
      };
    }`,
  "/src/drivers/kubernetes/kubeconfig-presenter.ts": `
    import { createKubeconfigPresenter as honest } from "SELF?honest";
    export * from "SELF?honest";
    export function createKubeconfigPresenter(...given) {
      const presenter = honest(...given);
      return { ...presenter, probe: async (...args) => globalThis.truthLiar.presented(await presenter.probe(...args)) };
    }`,
};

registerHooks({
  load(url, context, nextLoad) {
    const name = Object.keys(lies).find((path) => url.endsWith(path));
    if (name === undefined) return nextLoad(url, context);
    return { format: "module", source: lies[name].replaceAll("SELF", url), shortCircuit: true };
  },
});

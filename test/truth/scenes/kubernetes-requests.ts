/** Lines about what is asked of the cluster: CertificateSigningRequests, rights, and the document that is delivered. */
import { readFileSync } from "node:fs";
import { waitFor } from "../../../lab/estate.ts";
import { goTool } from "../../../lab/go-tools.ts";
import { runCommand } from "../../../lab/peers/peer.ts";
import { csrRights } from "../../../src/drivers/kubernetes/csr.ts";
import { csrSettings } from "../../../src/drivers/kubernetes/csr-settings.ts";
import { groupBindingRights } from "../../../src/drivers/kubernetes/rbac.ts";
import { groupBindingSettings } from "../../../src/drivers/kubernetes/rbac-settings.ts";
import type { Right } from "../../../src/drivers/kubernetes/rights.ts";
import { verifierRights } from "../../../src/drivers/kubernetes/verifier.ts";
import { type ClusterEstate, undeclared } from "../kubernetes/estate.ts";
import { type Build, type Ended, startGyre } from "../rotate.ts";
import { type Act, closed, held } from "../scene.ts";
import type { ClusterScene } from "./kubernetes-api-servers.ts";

interface Request {
  readonly metadata: { readonly name: string };
  readonly status?: { readonly conditions?: readonly object[] };
}

async function undecided(estate: ClusterEstate): Promise<string[]> {
  const ours = ["get", "csr", "-l", "app.kubernetes.io/managed-by=gyre", "-o", "json"];
  const { items } = JSON.parse(await estate.cluster.kubectl(...ours)) as { items: readonly Request[] };
  return items.filter(({ status }) => status?.conditions === undefined).map(({ metadata }) => metadata.name);
}

/** Starts Gyre; `decide` does what an approver would to the request that it makes, while it waits. */
async function whileAsked(
  estate: ClusterEstate,
  build: Build,
  decide: (asked: () => Promise<string>) => Promise<unknown>,
): Promise<Ended> {
  const before = await undecided(estate);
  const { ended } = startGyre(estate, ["rotate", estate.credential, "--now"], build);
  const asked = () =>
    waitFor("a request", async () => (await undecided(estate)).find((name) => !before.includes(name)), {
      ...{ timeout: 60_000, poll: 200 },
    });
  await decide(asked);
  return ended;
}

const certificate = (estate: ClusterEstate, verb: "approve" | "deny", name: string): Promise<string> =>
  estate.cluster.kubectl("certificate", verb, name);

const approved = (estate: ClusterEstate, title: string): Act => ({
  title,
  run: (build) => whileAsked(estate, build, async (asked) => certificate(estate, "approve", await asked())),
  expect: closed("DENIED"),
});

const issues = "the CA limits, or issues other names or another lifetime";
const bySomebody = {
  estate: () => ({ approval: "somebody" as const, csrPatience: "20s", audit: false }),
  twin: (estate: ClusterEstate) => [approved(estate, "twin")],
};

export const csrDenied: ClusterScene = {
  ...{ line: 15, name: "k8s csr-denied", fault: issues, ...bySomebody },
  how: "the approver denies the CertificateSigningRequest",
  acts: (estate) => [
    {
      title: "fault",
      run: (build) => whileAsked(estate, build, async (asked) => certificate(estate, "deny", await asked())),
      expect: { result: "put back", words: /was denied/ },
    },
    approved(estate, "approved"),
  ],
};

export const csrUnapproved: ClusterScene = {
  ...{ line: 15, name: "k8s csr-pending", fault: issues, ...bySomebody },
  how: "nobody approves the CertificateSigningRequest; then somebody does, but only when Gyre had given up waiting for it once",
  acts: (estate) => [
    {
      title: "fault",
      change: () => estate.write({ csrPatience: "1s" }),
      expect: { result: "put back", words: /nobody approved CertificateSigningRequest gyre-/ },
    },
    {
      title: "approved late",
      change: () => estate.write({ csrPatience: "4s" }),
      run: (build) => whileAsked(estate, build, (asked) => approvedLate(estate, asked)),
      expect: closed("DENIED"),
    },
  ],
};

/** The request that was named in the journal as one that nobody approved. */
async function approvedLate(estate: ClusterEstate, asked: () => Promise<string>): Promise<void> {
  const name = await asked();
  const journal = estate.workspace.path(".gyre", "credentials", estate.credential, "journal.jsonl");
  await waitFor("Gyre to give up once", () =>
    readFileSync(journal, "utf8").includes(`nobody approved CertificateSigningRequest ${name}`),
  );
  await certificate(estate, "approve", name);
}

export const csrCleaned: ClusterScene = {
  ...{ line: 15, name: "k8s csr-deleted", fault: issues, ...bySomebody },
  how: "a cleaner deletes the CertificateSigningRequest before anybody approved it; it is made again",
  acts: (estate) => [
    {
      title: "fault",
      run: (build) =>
        whileAsked(estate, build, async (asked) => {
          await estate.cluster.kubectl("delete", "csr", await asked());
          await certificate(estate, "approve", await asked());
        }),
      expect: closed("DENIED"),
    },
  ],
};

export const csrLifetime: ClusterScene = {
  ...{ line: 15, name: "k8s csr-lifetime", fault: issues },
  how: "the controller manager signs for 20 minutes at most, 12 hours were asked for",
  estate: () => ({ audit: false }),
  acts: (estate) => [
    {
      title: "fault",
      async change() {
        estate.mend(() => estate.cluster.restartControllerManager());
        await estate.cluster.restartControllerManager({ signingDuration: "20m" });
      },
      expect: { result: "put back", words: /a lifetime of .*instead of 12 h/ },
    },
    { title: "as asked", change: () => estate.cluster.restartControllerManager(), expect: closed("DENIED") },
  ],
};

const changed = "another controller changed the object";

/** Puts this file as the CA of the delivered kubeconfig, as somebody who mistook one for the other. */
async function putCa(estate: ClusterEstate, base64: string): Promise<void> {
  const config = [goTool("kubectl"), "--kubeconfig", estate.kubeconfig, "config"];
  const name = await runCommand([...config, "view", "-o", "jsonpath={.clusters[0].name}"]);
  await runCommand([...config, "set", `clusters.${name}.certificate-authority-data`, base64]);
}
const inKubeconfig = (estate: ClusterEstate, field: string): Promise<string> =>
  runCommand([
    ...[goTool("kubectl"), "--kubeconfig", estate.kubeconfig],
    ...["config", "view", "--raw", "-o", `jsonpath={${field}}`],
  ]);
const clientCertificate = ".users[0].user.client-certificate-data";

export const wrongCaBefore: ClusterScene = {
  ...{ line: 3, name: "k8s wrong-ca before", fault: changed },
  how: "somebody put the client certificate in the place of the kubeconfig's CA before the rotation: the delivery corrects it",
  estate: () => ({ audit: false }),
  acts: (estate) => [
    {
      title: "fault",
      change: async () => putCa(estate, await inKubeconfig(estate, clientCertificate)),
      expect: closed("DENIED"),
    },
  ],
};

export const wrongCaHeld: ClusterScene = {
  ...{ line: 3, name: "k8s wrong-ca held", fault: changed },
  how: "while the rotation is held, somebody puts the client certificate in the place of the kubeconfig's CA",
  acts: (estate) => {
    const somebody = undeclared(estate, 2, "again and again");
    let ca = "";
    return [
      {
        title: "held before",
        change: () => somebody.start(),
        looks: [somebody.look],
        expect: { ...held(estate.api(2).auditLog), words: /^held at quiet/ },
      },
      {
        title: "fault",
        async change() {
          await somebody.stop();
          ca = await inKubeconfig(estate, ".clusters[0].cluster.certificate-authority-data");
          await putCa(estate, await inKubeconfig(estate, clientCertificate));
        },
        expect: held(estate.kubeconfig),
      },
      { title: "put right", change: () => putCa(estate, ca), expect: closed("DENIED") },
    ];
  },
};

/** Gyre's own access, by a user that has these rights and no others. */
async function grant(estate: ClusterEstate, user: string, rights: readonly Right[]): Promise<void> {
  const { cluster } = estate;
  const rbac = "rbac.authorization.k8s.io";
  const rules = rights.map(({ verb, group = "", resource, name }) => ({
    ...{ apiGroups: [group], resources: [resource], verbs: [verb] },
    ...(name === undefined ? {} : { resourceNames: [name] }),
  }));
  await cluster.apply(
    { apiVersion: `${rbac}/v1`, kind: "ClusterRole", metadata: { name: user }, rules },
    {
      ...{ apiVersion: `${rbac}/v1`, kind: "ClusterRoleBinding", metadata: { name: user } },
      ...{ subjects: [{ apiGroup: rbac, kind: "User", name: user }] },
      ...{ roleRef: { apiGroup: rbac, kind: "ClusterRole", name: user } },
    },
  );
  for (const { address } of cluster.apiServers)
    await waitFor(`${address} to know the rights of ${user}`, async () => {
      const at = ["--server", `https://${address}`, "--tls-server-name", "kubernetes.default.svc"];
      const list = await cluster.kubectl(...at, "auth", "can-i", "--list", "--as", user, "--no-headers");
      // Two lines (basic-user, discovery) everybody has; ours are told by their verbs and resources.
      return all(rights, list);
    });
}
function all(rights: readonly Right[], list: string): boolean {
  const lines = list.split("\n").filter((line) => !/selfsubject|^\s+\[\//.test(line) && line.trim() !== "");
  const verbs = lines.flatMap((line) => /\[([^\]]*)\]\s*$/.exec(line)?.[1]?.split(" ") ?? []);
  return verbs.length === rights.length;
}

export const rightsShort: ClusterScene = {
  ...{ line: 20, name: "k8s rights", fault: "the engine's own credential expires in mid-rotation" },
  how: "each right that the drivers declare is taken from Gyre's own user in turn",
  estate: () => ({ audit: false }),
  acts(estate) {
    const user = `gyre-${estate.group(1).split(":")[1]}`;
    const verifies = { listed: undefined, count: undefined };
    const rights = [
      ...csrRights(csrSettings.parse({ cluster: "prod", approval: "gyre" })),
      ...groupBindingRights(
        groupBindingSettings.parse({ cluster: "prod", group: "gyre:x:{generation}", clusterRole: "cluster-admin" }),
      ),
      ...verifierRights(verifies, { refuses: "group" }),
    ];
    const { cluster } = estate;
    const access = cluster.writeKubeconfig(user, cluster.client(user, `/CN=${user}`));
    estate.mend(() => cluster.kubectl("delete", "clusterrole,clusterrolebinding", user, "--ignore-not-found"));
    return [
      ...rights.map((right): Act => {
        const { verb, resource } = right;
        return {
          title: `no ${verb} ${resource}`,
          async change() {
            estate.write({ access });
            await grant(
              estate,
              user,
              rights.filter((one) => one !== right),
            );
          },
          expect: { result: "error", code: "permission", names: [verb, resource.split("/")[0]!] },
        };
      }),
      { title: "all rights", change: () => grant(estate, user, rights), expect: closed("DENIED") },
    ];
  },
};

import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { makeWorkspace, waitFor } from "../../../lab/estate.ts";
import { buildGoTools } from "../../../lab/go-tools.ts";
import { type LabCluster, startCluster } from "../../../lab/peers/kubernetes.ts";
import { useWorkspace } from "../../../lab/testing.ts";
import { GyreError } from "../../errors.ts";
import { parseCertificate } from "../../pki/certificate.ts";
import { createCsr } from "../../pki/csr.ts";
import { describeCertificate } from "../../pki/generation.ts";
import { exportPrivateKey, generateKey, type PrivateKey } from "../../pki/keys.ts";
import { Secret } from "../../pki/secret.ts";
import type { CredentialHandle, Issued, IssueOrder, Step } from "../roles.ts";
import { Cluster } from "./cluster.ts";
import { clusterSettings } from "./cluster-settings.ts";
import { createCsrIssuer, csrRights } from "./csr.ts";
import { csrSettings } from "./csr-settings.ts";
import { createGroupBindings, groupBindingRights } from "./rbac.ts";
import { groupBindingSettings } from "./rbac-settings.ts";
import { rulesOf } from "./rights.ts";
import { createApiVerifier, verifierRights } from "./verifier.ts";
import { apiVerifierSettings } from "./verifier-settings.ts";

await buildGoTools(["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"]);
const workspace = useWorkspace("kubernetes-credentials");
let lab: LabCluster;
let cluster: Cluster;
beforeAll(async () => {
  lab = await startCluster(workspace, { name: "prod", signingDuration: "24h" });
  cluster = open();
});

/** As Gyre gets in, by this kubeconfig. */
const open = (kubeconfig = lab.kubeconfig, uid = lab.uid): Cluster =>
  new Cluster("prod", clusterSettings.parse({ uid, kubeconfig }), workspace.dir);
const around = (of: Cluster = cluster) => ({ baseDir: workspace.dir, cluster: () => of });
let count = 0;
const step = (op = `op-${count++}`): Step => ({ op, tag: `rotation.${op}`, signal: new AbortController().signal });
const hour = 3600_000;

async function order(subject: string, lifetime = hour): Promise<{ order: IssueOrder; key: PrivateKey }> {
  const key = await generateKey("P-256");
  const fields = { subject, names: [], usages: ["client"] as const };
  return { order: { ...fields, lifetime, csr: createCsr(key, fields) }, key };
}
function handle(issued: Issued, key: PrivateKey): CredentialHandle {
  const { fingerprint, serial, issuer, notAfter } = describeCertificate(parseCertificate(issued.certificate));
  return { fingerprint, serial, issuer, notAfter, ...issued, privateKey: exportPrivateKey(key) };
}
const csrIssuer = (more: object = {}, of?: Cluster) =>
  createCsrIssuer(csrSettings.parse({ cluster: "prod", approval: "gyre", ...more }), around(of));
async function client(subject: string): Promise<CredentialHandle> {
  const asked = await order(subject);
  return handle(await csrIssuer().issue(asked.order, step()), asked.key);
}
const failure = async (promise: Promise<unknown>): Promise<GyreError> => {
  const error = await promise.then(
    () => new Error("it went well"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof GyreError)) throw error;
  return error;
};

describe("the CSR API as an issuer", () => {
  test("a certificate for our key, under the client CA the API servers say they accept", async () => {
    const { order: asked, key } = await order("CN=alice,O=devs");
    const issuer = csrIssuer();
    await issuer.check!();
    const one = step();
    const issued = await issuer.issue(asked, one);
    const leaf = parseCertificate(issued.certificate);
    expect(leaf.subject).toBe("CN=alice,O=devs");
    expect(leaf.spki).toBe(parseCertificate(issued.certificate).spki);
    expect(issued.roots).toContain("BEGIN CERTIFICATE");
    expect(key.spkiDer.length).toBeGreaterThan(0);
    // Found again after a crash, and nothing is found for another op.
    expect(await issuer.find!(one.op, Date.now())).toEqual(issued);
    expect(await issuer.find!("another", Date.now())).toBeUndefined();
    // The same op does not ask twice.
    expect(await issuer.issue(asked, one)).toEqual(issued);
    const outside = await lab.kubectl("get", "certificatesigningrequests", "-o", "name");
    expect(outside.match(/gyre-/g)).toHaveLength(1);
  });

  test("longer ago than the cleaner leaves requests lying, nobody can tell what became of one", async () => {
    const issuer = csrIssuer();
    const { order: asked } = await order("CN=bob");
    const one = step();
    await issuer.issue(asked, one);
    const [name] = (await lab.kubectl("get", "csr", "-o", "name", "--sort-by=.metadata.creationTimestamp"))
      .trim()
      .split("\n")
      .slice(-1);
    await lab.kubectl("delete", name!);
    expect(await issuer.find!(one.op, Date.now() - 10 * 60_000)).toBeUndefined();
    expect(await issuer.find!(one.op, Date.now() - 56 * 60_000)).toBe("forgotten");
  });

  test("a denial is named with its reason; nobody approving is named as that, and the same request is taken up again", async () => {
    const issuer = csrIssuer({ approval: "somebody", patience: "2s" });
    const { order: asked } = await order("CN=carol");
    const tries = (n: number) => step(`carol/2/created/issue/prod#${n}~seed`);
    const waited = await failure(issuer.issue(asked, tries(1)));
    expect(waited.message).toMatch(/nobody approved CertificateSigningRequest gyre-\w+ within 2 s/);
    expect(waited.retry).toBe("later");
    const name = /gyre-\w+/.exec(waited.message)![0];
    await lab.kubectl("certificate", "approve", name);
    expect(parseCertificate((await issuer.issue(asked, tries(2))).certificate).subject).toBe("CN=carol");

    const other = step();
    const { order: second } = await order("CN=dave");
    const denied = failure(csrIssuer({ approval: "somebody", patience: "60s" }).issue(second, other));
    await waitFor("the request", async () =>
      (await lab.kubectl("get", "csr", "-o", "jsonpath={.items[?(@.spec.username)].metadata.name}")).includes("gyre-"),
    );
    const pending = (await lab.kubectl("get", "csr", "--no-headers"))
      .split("\n")
      .find((line) => line.includes("Pending"))!
      .split(" ")[0]!;
    await lab.kubectl("certificate", "deny", pending);
    const error = await denied;
    expect(error.message).toMatch(/was denied: KubectlDeny/);
    expect(error.retry).toBe("never");
  });

  test("a signer nobody signs for is told from one that is slow to approve", async () => {
    const roots = workspace.path("roots.pem");
    const issuer = csrIssuer({ signerName: "example.com/nobody", roots, patience: "2s" });
    const { order: asked } = await order("CN=erin");
    const error = await failure(issuer.issue(asked, step()));
    expect(error.message).toMatch(/is approved, but example.com\/nobody issued nothing within 2 s/);
  });

  test("system:masters is refused by the server, and the error says what to do instead", async () => {
    const { order: asked } = await order("CN=root,O=system:masters");
    const error = await failure(csrIssuer().issue(asked, step()));
    expect(error.message).toContain("system:masters");
    expect(error.next).toMatch(/a group of your own/);
  });

  test("the staging twin: another UID, and nothing is asked of it", async () => {
    const other = open(lab.kubeconfig, "00000000-0000-4000-8000-000000000000");
    const before = await lab.kubectl("get", "csr", "-o", "name");
    const { order: asked } = await order("CN=mallory");
    const error = await failure(csrIssuer({}, other).issue(asked, step()));
    expect(error.code).toBe("conflict");
    expect(error.message).toMatch(/another cluster/);
    expect(await lab.kubectl("get", "csr", "-o", "name")).toBe(before);
  });
});

describe("a group for each generation", () => {
  const settings = groupBindingSettings.parse({
    ...{ cluster: "prod", group: "gyre:readers:{generation}", clusterRole: "view" },
  });
  const store = () => createGroupBindings(settings, around());
  const verifierSettings = apiVerifierSettings.parse({
    ...{ cluster: "prod", refuses: "group", may: [{ verb: "list", resource: "pods" }] },
  });
  const verifier = () => createApiVerifier(verifierSettings, around());

  test("bound, accepted by every API server by name; unbound, denied by every one, the next accepted right after", async () => {
    const old = await client("CN=reader,O=gyre:readers:g1");
    const next = await client("CN=reader,O=gyre:readers:g2");
    const members = await verifier().members();
    expect(members.map(({ address }) => address).sort()).toEqual(lab.apiServers.map(({ address }) => address).sort());
    await store().check!();
    const empty = await store().read();
    expect(empty.pem).toBe("");
    const both = await store().put(old.certificate + next.certificate, empty.version, step());
    for (const member of members)
      for (const one of [old, next])
        await waitFor(`${member.id} to have seen the binding`, async () => {
          const result = await verifier().probe(member, one, step());
          return result.saw === "accepted" && result.as.startsWith("reader (gyre:readers:g");
        });
    // kubectl says the same, by its own means.
    expect(await lab.kubectl("auth", "can-i", "list", "pods", "--as=x", "--as-group=gyre:readers:g1")).toMatch(/yes/);
    await store().put(next.certificate, both.version, step());
    for (const member of members) {
      await waitFor(`${member.id} to deny the old one`, async () => {
        const result = await verifier().probe(member, old, step());
        return result.saw === "denied";
      });
      expect((await verifier().probe(member, next, step())).saw).toBe("accepted");
    }
    await expect(lab.kubectl("auth", "can-i", "list", "pods", "--as=x", "--as-group=gyre:readers:g1")).rejects.toThrow(
      /no/,
    );
    // A stale version writes nothing.
    const error = await failure(store().put(old.certificate, both.version, step()));
    expect(error.code).toBe("conflict");
  });

  test("what another binding still gives is no denial", async () => {
    const old = await client("CN=lingering,O=gyre:readers:g7");
    await lab.apply({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "lingering" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "lingering" }],
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "system:node-problem-detector" },
    });
    const [member] = await verifier().members();
    const result = await waitFor("the binding to show", async () => {
      const seen = await verifier().probe(member!, old, step());
      return seen.saw === "accepted" ? seen : undefined;
    });
    expect(result.as).toMatch(/lingering .*who still may .*by another binding/);
  });

  test("a right in a single namespace, or to a path, is no denial either", async () => {
    const old = await client("CN=hidden,O=gyre:readers:g8");
    const [member] = await verifier().members();
    // The control: with no binding at all it is denied.
    expect((await verifier().probe(member!, old, step())).saw).toBe("denied");
    const rbac = { apiVersion: "rbac.authorization.k8s.io/v1" };
    const subjects = [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "hidden" }];
    await lab.kubectl("create", "namespace", "far-away");
    await lab.apply({
      ...{ ...rbac, kind: "RoleBinding", metadata: { name: "hidden", namespace: "far-away" }, subjects },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "edit" },
    });
    const fresh = () => createApiVerifier(verifierSettings, around(open()));
    const inOne = await waitFor("the RoleBinding to show", async () => {
      const seen = await fresh().probe(member!, old, step());
      return seen.saw === "accepted" ? seen.as : undefined;
    });
    expect(inOne).toMatch(/who still may .* in far-away/);
    await lab.kubectl("-n", "far-away", "delete", "rolebinding", "hidden");
    await waitFor("it to be denied again", async () => (await fresh().probe(member!, old, step())).saw === "denied");
    await lab.apply(
      {
        ...{ ...rbac, kind: "ClusterRole", metadata: { name: "metrics-reader" } },
        rules: [{ nonResourceURLs: ["/metrics"], verbs: ["get"] }],
      },
      {
        ...{ ...rbac, kind: "ClusterRoleBinding", metadata: { name: "hidden" }, subjects },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "metrics-reader" },
      },
    );
    const path = await waitFor("the path to show", async () => {
      const seen = await fresh().probe(member!, old, step());
      return seen.saw === "accepted" ? seen.as : undefined;
    });
    expect(path).toMatch(/get \/metrics/);
  });

  test("a role that is not there is named before anything is bound", async () => {
    const wrong = createGroupBindings({ ...settings, clusterRole: "veiw" }, around());
    const error = await failure(wrong.check!());
    expect(error.message).toMatch(/there is no ClusterRole veiw/);
  });

  test("a certificate without a group of its own cannot be listed, and says so", async () => {
    const plain = await client("CN=plain,O=devs");
    expect(store().canList!("CN=plain,O=devs")).toBe(false);
    expect(store().canList!("CN=plain,O=gyre:readers:g12")).toBe(true);
    const error = await failure(store().put(plain.certificate, (await store().read()).version, step()));
    expect(error.message).toMatch(/has no group gyre:readers:\{generation\} of its own/);
  });
});

describe("API servers as verifiers", () => {
  const verifier = (of?: Cluster) => createApiVerifier(apiVerifierSettings.parse({ cluster: "prod" }), around(of));

  test("one that no longer trusts the CA refuses with 401, and only that one", async () => {
    const one = await client("CN=frank");
    const [first, ...others] = await verifier().members();
    const server = lab.apiServers.find(({ address }) => address === first!.address)!;
    const stranger = lab.client("stranger", "/CN=stranger");
    expect((await verifier().probe(first!, one, step())).saw).toBe("accepted");
    server.trustClients(workspace.path("prod", "front-proxy-ca", "ca.pem"));
    await waitFor("401", async () => (await verifier().probe(first!, one, step())).saw !== "accepted");
    // Gyre's own access is by that CA too, so this server cannot even be told apart from another cluster's: unknown.
    expect((await verifier().probe(first!, one, step())).saw).toMatch(/refused|unknown/);
    for (const member of others) expect((await verifier().probe(member, one, step())).saw).toBe("accepted");
    server.trustClients(lab.ca.certificate);
    await waitFor("accepted again", async () => (await verifier().probe(first!, one, step())).saw === "accepted");
    expect(stranger.fingerprint).not.toBe(one.fingerprint);
  });

  test("a certificate of a CA nobody trusts is refused with 401 by every one", async () => {
    const outside = makeWorkspace("outside-ca");
    try {
      const { makeAuthority, issue } = await import("../../../lab/pki.ts");
      const pair = issue(makeAuthority(outside.dir, { name: "other" }), { name: "eve", usages: ["client"] });
      const certificate = readFileSync(pair.certificate, "utf8");
      const named = describeCertificate(parseCertificate(certificate));
      const credential = { ...named, certificate, chain: "", privateKey: Secret.of(readFileSync(pair.privateKey)) };
      for (const member of await verifier().members())
        expect(await verifier().probe(member, credential, step())).toEqual({ saw: "refused", code: "401" });
    } finally {
      await outside.end();
    }
  });

  test("a server that is down is unknown, and so is the count of the servers", async () => {
    const one = await client("CN=grace");
    const members = await verifier().members();
    const [server] = lab.apiServers;
    await server!.stop();
    const down = members.find(({ address }) => address === server!.address)!;
    const seen = await verifier().probe(down, one, step());
    expect(seen).toMatchObject({ saw: "unknown", why: "connection refused" });
    await server!.start();
    await waitFor("it to answer again", async () => (await verifier().probe(down, one, step())).saw === "accepted");
  });

  test("a server that presents another CA's certificate is no API server of ours", async () => {
    const { makeAuthority, issue } = await import("../../../lab/pki.ts");
    const one = await client("CN=heidi");
    const [first] = await verifier().members();
    const server = lab.apiServers.find(({ address }) => address === first!.address)!;
    const names = ["DNS:kubernetes.default.svc", "IP:127.0.0.1", `IP:${server.host}`];
    const own = issue(lab.ca, { name: "serving-again", subject: "/CN=kube-apiserver", names });
    const foreign = issue(makeAuthority(workspace.dir, { name: "foreign-ca" }), { name: "serving", names });
    server.present(foreign);
    const result = await waitFor("another certificate", async () => {
      const seen = await verifier().probe(first!, one, step());
      return seen.saw === "unknown" ? seen : undefined;
    });
    expect(result.why).toMatch(/does not lead to the cluster's CA|another CA than the cluster's|by another key/);
    server.present(own);
    await waitFor("its own again", async () => (await verifier().probe(first!, one, step())).saw === "accepted");
  });
});

describe("the rights that docs and errors print", () => {
  test("are enough, and without any one of them the check names exactly that one", async () => {
    const csr = csrSettings.parse({ cluster: "prod", approval: "gyre" });
    const binding = groupBindingSettings.parse({
      cluster: "prod",
      group: "gyre:minimal:{generation}",
      clusterRole: "view",
    });
    const asked = apiVerifierSettings.parse({
      ...{ cluster: "prod", refuses: "group", may: [{ verb: "list", resource: "pods" }] },
    });
    const all = [...csrRights(csr), ...groupBindingRights(binding), ...verifierRights(cluster, asked)];
    const pair = lab.client("gyre", "/CN=gyre");
    const kubeconfig = lab.writeKubeconfig("gyre", pair);
    const grant = async (rights: typeof all) => {
      await lab.kubectl("delete", "clusterrolebinding,clusterrole", "-l", "test=minimal");
      const rules = rights.map(({ verb, group = "", resource, name }) => ({
        ...{ apiGroups: [group], resources: [resource], verbs: [verb] },
        ...(name === undefined ? {} : { resourceNames: [name] }),
      }));
      await lab.apply(
        {
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "ClusterRole",
          metadata: { name: "minimal", labels: { test: "minimal" } },
          rules,
        },
        {
          apiVersion: "rbac.authorization.k8s.io/v1",
          kind: "ClusterRoleBinding",
          metadata: { name: "minimal", labels: { test: "minimal" } },
          subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "gyre" }],
          roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "minimal" },
        },
      );
    };
    const check = async () => {
      const us = open(kubeconfig);
      await createCsrIssuer(csr, around(us)).check!();
      await createGroupBindings(binding, around(us)).check!();
      const verifier = createApiVerifier(asked, around(us));
      await verifier.check!();
      await verifier.members();
    };
    await grant(all);
    await waitFor("the rights to show at every API server", () =>
      check().then(
        () => true,
        () => false,
      ),
    );
    for (const right of all) {
      await grant(all.filter((one) => one !== right));
      const message = await waitFor(`${right.verb} ${right.resource} to be missed`, async () => {
        const error = await check().then(
          () => undefined,
          (reason: GyreError) => reason,
        );
        return error?.code === "permission" ? error.message : undefined;
      });
      expect(message).toContain(right.resource.split("/")[0]);
      expect(message).toContain(right.verb);
    }
    expect(rulesOf(all)).toContain("resourceNames");
  });
});

import { isIP } from "node:net";
import { resolve } from "node:path";
import type { z } from "zod";
import { catalogue, type DriverEntry, driversOf } from "../drivers/catalogue.ts";
import { clientSigner } from "../drivers/kubernetes/csr-settings.ts";
import { generationMark } from "../drivers/kubernetes/rbac-settings.ts";
import { scheduleOf } from "../engine/lead.ts";
import { sayMillis } from "../engine/time-words.ts";
import { covers } from "../pki/hostnames.ts";
import { brief, type Checking, isBroken } from "./explain.ts";
import { nearest } from "./nearest.ts";
import { policyOf } from "./policy.ts";
import type { clusterDocument, credentialSpec, issuerSpec } from "./schema.ts";
import { position } from "./source.ts";
import { at, fieldText, type Path, spanAt } from "./tree.ts";

/** A document whose sections were parsed one by one: what is wrong in one section does not hide the others. */
export type Draft = Checking & { readonly name: string | undefined } & (
    | { readonly kind: "Issuer"; readonly spec: Partial<z.output<typeof issuerSpec>> }
    | { readonly kind: "Credential"; readonly spec: Partial<z.output<typeof credentialSpec>> }
    | { readonly kind: "Cluster"; readonly spec: Partial<z.output<typeof clusterDocument>["spec"]> }
  );
type Issuer = Extract<Draft, { kind: "Issuer" }>;
type Credential = Extract<Draft, { kind: "Credential" }>;
type Entry = DriverEntry<"target" | "trustStore" | "presenter" | "verifier" | "sensor">;

interface More {
  readonly allowed?: string;
  readonly next?: string;
}

function report(draft: Draft, path: Path, message: string, more: More = {}): void {
  if (isBroken(draft.tree, path)) return;
  draft.problems.push({
    source: draft.source,
    span: spanAt(draft.tree, path),
    field: fieldText(path),
    message,
    ...more,
  });
}

function whereIs(draft: Draft, path: Path): string {
  const { line, column } = position(draft.source, spanAt(draft.tree, path).from);
  return `${draft.source.name}:${line}:${column}`;
}

/** What no schema can say: fields against other fields, and documents against other documents. */
export function crossCheck(drafts: readonly Draft[]): void {
  const issuers = new Map(
    drafts.flatMap((d) => (d.kind === "Issuer" && d.name !== undefined ? [[d.name, d] as const] : [])),
  );
  const clusters = drafts.flatMap((d) => (d.kind === "Cluster" && d.name !== undefined ? [d.name] : []));
  uniqueNames(drafts);
  uniquePaths(drafts);
  uniqueSecrets(drafts);
  for (const draft of drafts) {
    if (draft.kind === "Issuer") checkIssuer(draft);
    if (draft.kind === "Credential") checkCredential(draft, issuers);
    if (draft.kind === "Cluster") checkCluster(draft);
    knownClusters(draft, clusters);
    knownPlaceholders(draft);
    commandsWithoutEnvironment(draft);
  }
}

function uniqueNames(drafts: readonly Draft[]): void {
  const seen = new Map<string, string>();
  const path = ["metadata", "name"];
  for (const draft of drafts) {
    const key = `${draft.kind} ${draft.name}`;
    if (draft.name === undefined) continue;
    const first = seen.get(key);
    if (first !== undefined) report(draft, path, `there is another ${key}, at ${first}`);
    else seen.set(key, whereIs(draft, path));
    // A CRL is a credential: the name it gets must be free among them.
    if (draft.kind === "Credential" && draft.name.endsWith(".crl"))
      report(draft, path, "names that end in .crl belong to the CRLs of issuers");
  }
}

/** Two writers of one file would undo each other for ever. Trust stores may share: each keeps the entries of others. */
function uniquePaths(drafts: readonly Draft[]): void {
  const writers = new Map<string, { readonly shared: boolean; readonly where: string }>();
  for (const draft of drafts)
    for (const [path, entry] of entriesOf(draft)) {
      const row = catalogue.find((c) => c.key === entry.key && c.role === entry.role);
      for (const field of row?.writes ?? []) {
        const place = [...path, ...field.split(".")];
        const text = at(draft.tree, place)?.value;
        if (text?.kind !== "scalar" || typeof text.value !== "string" || text.broken) continue;
        const file = resolve(draft.source.baseDir, text.value);
        const known = writers.get(file);
        const shared = entry.role === "trustStore";
        if (known && !(known.shared && shared)) report(draft, place, `the same path is written by ${known.where}`);
        else if (!known) writers.set(file, { shared, where: whereIs(draft, place) });
      }
    }
}

/** A Secret says which op wrote it, once; a kubeconfig says so in itself, so several may lie in one Secret by their keys. */
function uniqueSecrets(drafts: readonly Draft[]): void {
  const writers = new Map<string, string>();
  for (const draft of drafts)
    for (const [i, entry] of (draft.kind === "Credential" ? (draft.spec.deliver ?? []) : []).entries()) {
      if (entry.key === "files") continue;
      const { secret } = entry.settings as {
        secret?: { cluster: string; namespace: string; name: string; key: string };
      };
      const whole = entry.key === "secret" ? entry.settings : secret;
      if (whole === undefined) continue;
      const place = JSON.stringify([
        whole.cluster,
        whole.namespace,
        whole.name,
        entry.key === "secret" ? "" : secret!.key,
      ]);
      const path = ["spec", "deliver", i, entry.key, ...(entry.key === "secret" ? [] : ["secret"])];
      const known = writers.get(place);
      if (known !== undefined) report(draft, [...path, "name"], `the same Secret is written by ${known}`);
      else writers.set(place, whereIs(draft, path));
    }
}

/** Wherever a driver's settings say `cluster`, however deep. */
function knownClusters(draft: Draft, clusters: readonly string[]): void {
  const visit = (path: Path): void => {
    const node = at(draft.tree, path)?.value;
    if (node?.kind === "sequence") for (const i of node.items.keys()) visit([...path, i]);
    if (node?.kind !== "mapping") return;
    for (const name of node.entries.keys()) {
      const place = [...path, name];
      const value = name === "cluster" ? at(draft.tree, place)?.value : undefined;
      if (value?.kind !== "scalar" || typeof value.value !== "string") visit(place);
      else if (!clusters.includes(value.value)) {
        const meant = nearest(value.value, clusters);
        report(
          draft,
          place,
          `there is no Cluster named "${brief(value.value)}"${meant === undefined ? "" : `; did you mean "${meant}"?`}`,
          { allowed: clusters.join(", ") || "none: no Cluster document was given" },
        );
      }
    }
  };
  if (draft.kind !== "Cluster") visit(["spec"]);
}

function checkCluster(draft: Extract<Draft, { kind: "Cluster" }>): void {
  const { addresses, count } = draft.spec.apiServers ?? {};
  if (addresses !== undefined && count !== undefined && addresses.length !== count)
    report(
      draft,
      ["spec", "apiServers", "count"],
      `${count} API servers, but ${addresses.length} addresses are listed`,
    );
  for (const [i, one] of (addresses ?? []).entries())
    if (addresses!.indexOf(one) < i)
      report(draft, ["spec", "apiServers", "addresses", i], `"${brief(one)}" is listed twice`);
}

function entriesOf(draft: Draft): (readonly [Path, { readonly key: string; readonly role: string }])[] {
  if (draft.kind === "Cluster") return [];
  if (draft.kind === "Issuer") {
    const own = driversOf("issuer")
      .filter(({ key }) => draft.spec[key as keyof typeof draft.spec] !== undefined)
      .map(({ key }) => [["spec", key], { key, role: "issuer" }] as const);
    return [
      ...own,
      ...(draft.spec.crl?.deliver ?? []).map((e, i) => [["spec", "crl", "deliver", i, e.key], e] as const),
    ];
  }
  return (["deliver", "trust", "prove"] as const).flatMap((section) =>
    (draft.spec[section] ?? []).map((entry: Entry, i) => [["spec", section, i, entry.key], entry] as const),
  );
}

function checkIssuer(draft: Issuer): void {
  const { localCA, crl } = draft.spec;
  const spec = at(draft.tree, ["spec"])?.value;
  const known = driversOf("issuer").map(({ key }) => key);
  const given = spec?.kind === "mapping" ? known.filter((key) => spec.entries.has(key)) : [];
  if (spec?.kind === "mapping" && given.length !== 1)
    report(draft, given.length === 0 ? ["spec"] : ["spec", given[1]!], `give exactly one of ${known.join(", ")}`);
  if (spec?.kind === "mapping" && spec.entries.has("crl") && given.length === 1 && localCA === undefined)
    report(draft, ["spec", "crl"], `a ${given[0]} issuer revokes nothing, so it has no CRL`);
  for (const [i, entry] of (crl?.deliver ?? []).entries())
    if (!("crl" in entry.settings) || entry.settings.crl === undefined)
      report(draft, ["spec", "crl", "deliver", i, entry.key], "a CRL is delivered to a `crl` path", {
        allowed: "files: { crl: … }",
      });
  for (const [i, entry] of (crl?.prove ?? []).entries())
    if (entry.settings.refuses === "pins")
      report(
        draft,
        ["spec", "crl", "prove", i, entry.key, "refuses"],
        "a CRL is proven at servers that read it; these refuse by pins",
        { allowed: "refuses: crl" },
      );
  if (crl) checkRenewal(draft, ["spec", "crl", "renew"], policyOf(crl.renew, 0.5), crl.lifetime);
  if (crl) checkTimes(draft, ["spec", "crl"], crl, crl.lifetime);
}

function checkCredential(draft: Credential, issuers: ReadonlyMap<string, Issuer>): void {
  const { issue, renew } = draft.spec;
  const issuer = issue && checkIssuerOf(draft, issue.issuer, issuers);
  if (issue) checkNames(draft, issue);
  if (issue && issuer) checkLifetime(draft, issue.lifetime, issuer);
  if (issue && renew) checkRenewal(draft, ["spec", "renew"], policyOf(renew), issue.lifetime);
  if (issue && draft.spec.timing) checkSkew(draft, issue.lifetime, draft.spec.timing.skew);
  checkTimes(draft, ["spec"], draft.spec, issue?.lifetime);
  checkProve(draft);
  checkRefusals(draft, issuer);
  checkGroups(draft, issuer);
  checkTargets(draft);
}

function checkIssuerOf(draft: Credential, name: string, issuers: ReadonlyMap<string, Issuer>): Issuer | undefined {
  const issuer = issuers.get(name);
  if (issuer) return issuer;
  const meant = nearest(name, [...issuers.keys()]);
  report(
    draft,
    ["spec", "issue", "issuer"],
    `there is no Issuer named "${brief(name)}"${meant === undefined ? "" : `; did you mean "${meant}"?`}`,
    { allowed: [...issuers.keys()].join(", ") || "none: no Issuer document was given" },
  );
  return undefined;
}

function checkNames(draft: Credential, issue: NonNullable<Credential["spec"]["issue"]>): void {
  const { dnsNames, ipAddresses, uris, emails, usages } = issue;
  if (usages.includes("server") && dnsNames.length + ipAddresses.length + uris.length === 0)
    report(
      draft,
      ["spec", "issue"],
      "a server certificate needs dnsNames, ipAddresses or uris: verifiers ignore the subject",
    );
  for (const [field, list] of Object.entries({ dnsNames, ipAddresses, uris, emails, usages }))
    for (const [i, value] of list.entries())
      if ((list as readonly string[]).indexOf(value) < i)
        report(draft, ["spec", "issue", field, i], `"${brief(value)}" stands in ${field} twice`);
}

function checkLifetime(draft: Credential, lifetime: number, issuer: Issuer): void {
  const path = ["spec", "issue", "lifetime"];
  const settings = issuer.spec.localCA as DriverEntry<"issuer">["settings"] | undefined;
  if (!settings || !("maxLifetime" in settings)) return;
  if (lifetime > settings.maxLifetime)
    report(draft, path, `${sayMillis(lifetime)} is longer than its issuer signs (${sayMillis(settings.maxLifetime)})`, {
      next: `shorten it, or raise maxLifetime at ${whereIs(issuer, ["spec", "localCA", "maxLifetime"])}`,
    });
  else if (lifetime > settings.lifetime)
    report(draft, path, `${sayMillis(lifetime)} is longer than its CA lives (${sayMillis(settings.lifetime)})`);
}

/** It would count as ended from the moment it is issued, and every rotation would leave one more behind. */
function checkSkew(draft: Credential, lifetime: number, skew: number): void {
  if (lifetime > skew) return;
  report(
    draft,
    ["spec", "issue", "lifetime"],
    `${sayMillis(lifetime)} is not longer than the difference of clocks that must not matter (${sayMillis(skew)})`,
    { next: "lengthen it, or say timing: { skew: … } for clocks that agree better" },
  );
}

function checkRenewal(draft: Draft, path: Path, policy: ReturnType<typeof policyOf>, lifetime: number): void {
  const schedule = scheduleOf(policy, lifetime);
  if ("message" in schedule) report(draft, [...path, schedule.field], schedule.message, { next: schedule.next });
}

/** A quiet window that outlasts the time between two rotations would never end before the next one. */
function checkTimes(
  draft: Draft,
  path: Path,
  spec: Pick<Credential["spec"], "quiet" | "timing" | "renew">,
  life?: number,
): void {
  const { quiet, timing, renew } = spec;
  if (timing && timing.poll > timing.patience)
    report(
      draft,
      [...path, "timing", "poll"],
      `a pause of ${sayMillis(timing.poll)} is longer than the patience of ${sayMillis(timing.patience)}`,
    );
  if (timing && timing.freshness <= timing.poll)
    report(
      draft,
      [...path, "timing", "freshness"],
      `findings that die after ${sayMillis(timing.freshness)} do not live from one look to the next (poll ${sayMillis(timing.poll)})`,
    );
  if (!quiet || !renew || life === undefined) return;
  const schedule = scheduleOf(policyOf(renew), life);
  if ("message" in schedule) return;
  const { window, ...periods } = quiet;
  for (const [field, length] of Object.entries(window === undefined ? periods : { window })) {
    const wait = field === "window" ? length! : length! * 1.25;
    if (wait >= schedule.dueAge)
      report(
        draft,
        [...path, "quiet", field],
        `a quiet window of ${sayMillis(wait)} outlasts the time from one rotation to the next (${sayMillis(schedule.dueAge)})`,
      );
  }
}

function checkProve(draft: Credential): void {
  const { prove, issue } = draft.spec;
  if (!prove || prove.length === 0) return;
  if (prove.every((entry) => entry.role === "sensor"))
    report(draft, ["spec", "prove"], "nothing to prove with: a record of use alone shows no new certificate", {
      allowed: "at least one tls or mutualTls entry",
    });
  for (const [i, entry] of prove.entries()) {
    const path = ["spec", "prove", i, entry.key];
    const needs = entry.role === "presenter" && entry.key !== "kubeconfig" ? "server" : "client";
    if (issue && entry.role !== "sensor" && !issue.usages.includes(needs))
      report(
        draft,
        path,
        `${entry.key} looks at a ${needs} certificate, but issue.usages says ${issue.usages.join(", ")}`,
        {
          next: `add ${needs} to spec.issue.usages (${whereIs(draft, ["spec", "issue", "usages"])}), or take this entry out`,
        },
      );
    if (issue && entry.role === "presenter" && entry.key === "tls" && issue.usages.includes("server"))
      checkServerName(draft, [...path, "serverName"], entry.settings.serverName, issue);
    if (entry.role === "sensor") checkSensor(draft, path, entry.settings);
  }
}

function checkServerName(
  draft: Credential,
  path: Path,
  name: string,
  issue: NonNullable<Credential["spec"]["issue"]>,
): void {
  const typed = [
    ...issue.dnsNames.map((dns) => `DNS:${dns.toLowerCase()}`),
    ...issue.ipAddresses.map((ip) => `IP:${ip}`),
  ];
  const covered = covers(typed, isIP(name) === 0 ? `DNS:${name}` : `IP:${name}`);
  // A certificate of URIs only (SPIFFE) is not checked by host name.
  if (covered || issue.dnsNames.length + issue.ipAddresses.length === 0) return;
  const names = [...issue.dnsNames, ...issue.ipAddresses];
  const meant = nearest(name, names);
  report(
    draft,
    path,
    `"${brief(name)}" is not a name of the certificate${meant === undefined ? "" : `; did you mean "${meant}"?`}`,
    {
      allowed: brief(names.join(", ")),
    },
  );
}

function checkSensor(draft: Credential, path: Path, settings: DriverEntry<"sensor">["settings"]): void {
  const { member } = settings;
  const verifiers = (draft.spec.prove ?? []).flatMap((entry) => (entry.role === "verifier" ? [entry.settings] : []));
  if ("cluster" in settings) {
    if (!verifiers.some((one) => "cluster" in one && one.cluster === settings.cluster))
      report(
        draft,
        path,
        "an audit log records requests to an API server: it needs the kubernetesApi entry of its cluster",
      );
    return;
  }
  if (verifiers.length === 0) {
    report(
      draft,
      path,
      "an access log records client certificates: it needs the mutualTls entry whose server writes it",
    );
    return;
  }
  const listed = verifiers.flatMap((settings) => ("addresses" in settings ? (settings.addresses ?? []) : []));
  // Members that are found anew at every round cannot be known here.
  if (verifiers.some((settings) => !("addresses" in settings)) || listed.includes(member)) return;
  const meant = nearest(member, listed);
  report(
    draft,
    [...path, "member"],
    `"${brief(member)}" is not an address of a mutualTls entry${meant === undefined ? "" : `; did you mean "${meant}"?`}`,
    {
      allowed: listed.join(", "),
    },
  );
}

/** What a trust store of each driver can make verifiers refuse by. */
const REFUSED_BY: Readonly<Record<string, "pins" | "group">> = {
  files: "pins",
  "kubernetes-configmap": "pins",
  "kubernetes-rbac": "group",
};
const WAYS = {
  pins: { entry: "files", where: "the files that list the accepted certificates" },
  group: { entry: "groupBinding", where: "the role that each generation's group is bound to" },
} as const;

function checkRefusals(draft: Credential, issuer: Issuer | undefined): void {
  const { prove, trust, revoke } = draft.spec;
  if (!prove || !trust) return;
  const hasCrl = issuer && at(issuer.tree, ["spec", "crl"]) !== undefined;
  const selfSigned = issuer && at(issuer.tree, ["spec", "selfSigned"]) !== undefined;
  const offered = new Set(trust.map((entry) => REFUSED_BY[entry.driver]));
  const verifiers = [...prove.entries()].flatMap(([i, e]) =>
    e.role === "verifier" ? [{ i, key: e.key, refuses: e.settings.refuses }] : [],
  );
  for (const { i, key, refuses } of verifiers) {
    const path = ["spec", "prove", i, key, "refuses"];
    if (refuses === "crl" && issuer && !hasCrl)
      report(draft, path, `refuses: crl needs a CRL, and Issuer ${issuer.name} has none`, {
        next: `add spec.crl to the issuer (${whereIs(issuer, ["spec"])})`,
      });
    if (refuses === "crl" && offered.has("pins"))
      report(draft, path, "refuses: crl beside spec.trust: pinned certificates are refused by taking their pin out", {
        allowed: "refuses: pins",
      });
    if ((refuses === "pins" || refuses === "group") && !offered.has(refuses))
      report(draft, path, `refuses: ${refuses} needs spec.trust, ${WAYS[refuses].where}`, {
        ...(trust.length === 0 ? {} : { allowed: `${WAYS[refuses].entry}: …` }),
      });
  }
  for (const way of offered)
    if (way !== undefined && !verifiers.some((v) => v.refuses === way))
      report(
        draft,
        ["spec", "trust"],
        way === "pins"
          ? "spec.trust lists pins, but no mutualTls entry says refuses: pins: nobody could be seen refusing"
          : "spec.trust binds a group, but no kubernetesApi entry says refuses: group: nobody could be seen denying",
        {
          next:
            way === "pins"
              ? "add refuses: pins to the mutualTls entry whose server reads them"
              : "add refuses: group, and `may`, to the kubernetesApi entry",
        },
      );
  for (const [i, entry] of trust.entries())
    if ("crl" in entry.settings && entry.settings.crl !== undefined)
      report(
        draft,
        ["spec", "trust", i, entry.key, "crl"],
        "pins are certificates; a CRL is delivered by its issuer (spec.crl of the Issuer)",
        {
          allowed: "bundle, truststore",
        },
      );
  if (selfSigned && !offered.has("pins") && !trust.some((entry) => entry.driver === "kubernetes-ca-bundle"))
    report(
      draft,
      ["spec"],
      "a self-signed certificate is accepted only where it is pinned, and there is no spec.trust",
    );
  if (revoke === true && trust.length === 0 && issuer && !hasCrl)
    report(
      draft,
      ["spec", "revoke"],
      `revoke: true needs a way to refuse: a CRL of Issuer ${issuer.name}, or pins (spec.trust)`,
    );
}

/** API servers read the groups of a client certificate from O= of its subject; admission refuses one of them. */
function checkGroups(draft: Credential, issuer: Issuer | undefined): void {
  const { issue, trust } = draft.spec;
  if (!issue) return;
  const path = ["spec", "issue", "subject"];
  const { subject = "" } = issue;
  const groups = subject.split(/(?<!\\),/).flatMap((part) => /^\s*O=(.*)$/.exec(part)?.[1] ?? []);
  const csr = issuer?.spec.kubernetesCSR as { readonly signerName?: string } | undefined;
  if (csr?.signerName === clientSigner && groups.includes("system:masters"))
    report(draft, path, "O=system:masters is refused by every API server (admission CertificateSubjectRestriction)", {
      next: "name a group of your own and bind it to a role, such as cluster-admin",
    });
  for (const [i, entry] of (trust ?? []).entries())
    if (entry.driver === "kubernetes-rbac" && !groups.includes(entry.settings.group))
      report(
        draft,
        ["spec", "trust", i, entry.key, "group"],
        `"${brief(entry.settings.group)}" is no group (O=) of spec.issue.subject, so nobody would be of it`,
        {
          allowed:
            groups.filter((group) => group.includes(generationMark)).join(", ") ||
            `O=${entry.settings.group} in spec.issue.subject`,
        },
      );
  if (trust && subject.includes(generationMark) && !trust.some((entry) => entry.driver === "kubernetes-rbac"))
    report(
      draft,
      path,
      `${generationMark} in a subject needs spec.trust groupBinding: nothing else is made for one generation`,
    );
}

function checkTargets(draft: Credential): void {
  for (const [i, entry] of (draft.spec.deliver ?? []).entries()) {
    const mode = "mode" in entry.settings ? entry.settings.mode : undefined;
    if (mode !== undefined && (Number.parseInt(mode, 8) & 0o007) !== 0)
      report(
        draft,
        ["spec", "deliver", i, entry.key, "mode"],
        `mode ${mode} lets every user of the host at the private key`,
        { allowed: '"0600", or "0640" with a group' },
      );
  }
}

/** The words a validate command may use for the staged files, by role. */
const PLACEHOLDERS: Record<string, readonly string[]> = {
  target: ["certificate", "privateKey", "chain", "combined", "keystore"],
  trustStore: ["bundle", "crl", "truststore"],
};

/** A misspelt placeholder would reach the program as it stands, and its complaint would name no field of ours. */
function knownPlaceholders(draft: Draft): void {
  for (const [path, { role }] of entriesOf(draft)) {
    const words = PLACEHOLDERS[role] ?? [];
    const place = [...path.slice(0, -1), "validate", "command"];
    const command = at(draft.tree, place)?.value;
    for (const [i, word] of (command?.kind === "sequence" ? command.items : []).entries())
      for (const [, name] of word.kind === "scalar" ? String(word.value).matchAll(/\{([A-Za-z]+)\}/g) : []) {
        const meant = words.includes(name!) ? undefined : nearest(name!, words);
        if (meant !== undefined)
          report(draft, [...place, i], `unknown placeholder {${brief(name!)}}; did you mean {${meant}}?`, {
            allowed: words.map((w) => `{${w}}`).join(", "),
          });
      }
  }
}

/** Arguments of a process are visible to every user of the host, so nothing from the environment may go there. */
function commandsWithoutEnvironment(draft: Draft): void {
  const visit = (path: Path): void => {
    const node = at(draft.tree, path)?.value;
    if (node?.kind === "sequence") for (const i of node.items.keys()) visit([...path, i]);
    if (node?.kind === "mapping") for (const name of node.entries.keys()) visit([...path, name]);
    if (node?.kind === "scalar" && node.from.length > 0 && path.at(-2) === "command")
      report(draft, path, `the value of ${node.from.join(", ")} would be visible in the process list`, {
        next: "let the program read its environment or a file instead",
      });
  };
  visit(["spec"]);
}

import { isIP } from "node:net";
import { z } from "zod";
import { type DriverEntry, type DriverRole, driversOf } from "../drivers/catalogue.ts";
import { clusterSettings } from "../drivers/kubernetes/cluster-settings.ts";
import { duration } from "../drivers/shared-settings.ts";
import { weekdays } from "../engine/renew-policy.ts";
import { nearest } from "./nearest.ts";

export const API_VERSION = "gyre.dev/v1alpha1";

const name = z
  .string()
  .max(100, "at most 100 characters")
  .regex(
    /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/,
    "lower-case letters, digits, `-` and `.`, with a letter or digit at both ends",
  )
  .refine((text) => !text.includes(".."), "no two dots in a row");

const percent = z
  .string()
  .regex(/^\d{1,3}(\.\d+)?%$/, "a share such as 66%")
  .transform((text) => Number.parseFloat(text) / 100);
const share = percent
  .refine((value) => value >= 0.05 && value <= 0.95, "a share between 5% and 95%")
  .meta({ description: "A share of the lifetime, such as 66%" });

/** Zero times would make things due always, or never. */
const someTime = duration.refine((value) => value > 0, "a duration longer than zero");

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, "a time of day such as 02:00 or 23:30");
const endOfDay = z.string().regex(/^(([01]\d|2[0-3]):[0-5]\d|24:00)$/, "a time of day such as 04:00, or 24:00");

const day = z.enum(weekdays);

/** A day, or a local time on it; an offset would contradict the zone beside it. */
const date = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}(T([01]\d|2[0-3]):[0-5]\d)?$/, "a date such as 2026-12-24, or with a time 2026-12-24T18:00")
  .refine(isDate, "a date that exists");

function isDate(text: string): boolean {
  const day = text.slice(0, 10);
  const parsed = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(day);
}

const zone = z
  .string()
  .refine(isZone, {
    error: ({ input }) => `a time zone of the IANA list such as Europe/Berlin, or UTC${nearZone(input)}`,
  })
  .default("UTC")
  .meta({ description: "IANA time zone in which the times are meant; default UTC" });

function nearZone(input: unknown): string {
  const meant = typeof input === "string" ? nearest(input, Intl.supportedValuesOf("timeZone")) : undefined;
  return meant === undefined ? "" : ` (did you mean ${meant}?)`;
}

/** Offsets such as +02:00 are refused: they know no summer time, which is why a zone is asked for. */
function isZone(text: string): boolean {
  if (!/^[A-Za-z]/.test(text)) return false;
  try {
    new Intl.DateTimeFormat("en", { timeZone: text });
    return true;
  } catch {
    return false;
  }
}

/** Told even when something else in the same mapping is wrong. */
function haveEnds({ value }: { value: unknown }): boolean {
  const { from, to } = Object(value);
  return typeof from === "string" && typeof to === "string";
}

const maintenanceWindow = z
  .strictObject({
    days: z
      .array(day)
      .min(1, "at least one day")
      .optional()
      .meta({ description: "Days on which the window opens; default every day" }),
    from: timeOfDay.meta({ description: "When it opens, local time of the zone" }),
    to: endOfDay.meta({ description: "When it closes; earlier than `from` means on the next day" }),
    zone,
  })
  .refine((w) => w.from !== w.to, {
    message: "another time than `from` (for a whole day write from 00:00 to 24:00)",
    path: ["to"],
    when: haveEnds,
  })
  .meta({ description: "When changes may happen" });

const freeze = z
  .strictObject({
    from: date.meta({ description: "First day (or local time) without changes" }),
    to: date.meta({ description: "Last day without changes, or the local time at which it ends" }),
    zone,
  })
  .refine((f) => f.from <= f.to, { message: "a date that is not before `from`", path: ["to"], when: haveEnds })
  .meta({ description: "Days on which nothing is changed" });

const DUE = ["after", "before", "every"] as const;

export const renew = z
  .strictObject({
    after: share.optional().meta({ description: "Due when this share of the lifetime has passed" }),
    before: someTime.optional().meta({ description: "Due this long before notAfter" }),
    every: someTime
      .optional()
      .meta({ description: "Due at this distance from the last rotation, whatever the lifetime" }),
    maxAge: someTime.optional().meta({ description: "Due at the latest when the generation in use is this old" }),
    window: maintenanceWindow.optional().meta({ description: "The one maintenance window; changes wait for it" }),
    windows: z
      .array(maintenanceWindow)
      .min(1, "at least one window")
      .optional()
      .meta({ description: "Several maintenance windows; any open one will do" }),
    freezes: z.array(freeze).default([]).meta({ description: "Days on which nothing is changed, windows or not" }),
    jitter: percent
      .refine((value) => value <= 0.5, "a share between 0% and 50%")
      .optional()
      .meta({ description: "Spreads due dates earlier by up to this share, always the same for one credential" }),
    whenLate: z
      .enum(["rotate", "hold"])
      .optional()
      .meta({ description: "When no window opens before notAfter: rotate outside of them (default), or hold" }),
  })
  .refine(
    (r) => DUE.filter((key) => r[key] !== undefined).length <= 1,
    "give one of after, before and every (maxAge may stand beside it)",
  )
  .refine((r) => r.window === undefined || r.windows === undefined, "give window or windows, not both")
  .meta({ description: "When the next generation is due, and when it may be put in place" });

const algorithm = z.enum(["P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", "RSA-4096"]);

const dnsName = z
  .string()
  .max(253, "a DNS name of at most 253 characters")
  .regex(
    /^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/,
    "a DNS name such as shop.example or *.shop.example (other scripts as xn--…, no dot at the end)",
  );

export const issue = z
  .strictObject({
    issuer: z.string().meta({ description: "Name of the Issuer document that makes each generation" }),
    subject: z
      .string()
      .regex(/^([A-Za-z][A-Za-z0-9.]*=.+)?$/, "a distinguished name such as CN=shop,O=Example")
      .optional()
      .meta({ description: "Distinguished name such as CN=shop,O=Example; default CN=<metadata.name>" }),
    dnsNames: z.array(dnsName).default([]).meta({ description: "DNS names of the certificate" }),
    ipAddresses: z
      .array(
        z
          .string()
          .refine((text) => isIP(text) !== 0 && !text.includes("%"), "an IP address such as 10.0.0.1 or 2001:db8::1"),
      )
      .default([])
      .meta({ description: "IP addresses of the certificate" }),
    uris: z
      .array(z.string().regex(/^[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+$/, "a URI such as spiffe://example.org/shop"))
      .default([])
      .meta({ description: "URIs of the certificate, such as a SPIFFE ID" }),
    emails: z
      .array(z.string().regex(/^[\x21-\x3f\x41-\x7e]+@[A-Za-z0-9.-]+$/, "an e-mail address"))
      .default([])
      .meta({ description: "E-mail addresses of the certificate" }),
    usages: z
      .array(z.enum(["server", "client"]))
      .min(1, "server, client or both")
      .default(["server"])
      .meta({ description: "What the certificate is for: server, client or both; default server" }),
    algorithm: algorithm.default("P-256").meta({ description: "Algorithm of the key; default P-256" }),
    lifetime: someTime.meta({ description: "From issue to notAfter" }),
  })
  .meta({ description: "What each generation looks like and who makes it" });

export const quiet = z
  .strictObject({
    window: duration
      .optional()
      .meta({ description: "The quiet window itself; otherwise 1.25 times the longest of the others" }),
    consumerPeriod: duration.optional().meta({ description: "Longest pause between two uses by one consumer" }),
    connectionAge: duration.optional().meta({ description: "Longest life of one connection" }),
    ticketLifetime: duration.optional().meta({ description: "Longest time a TLS session can be resumed" }),
    cacheTtl: duration.optional().meta({ description: "Longest time something between caches the credential" }),
    sensorLag: duration.optional().meta({ description: "Longest delay until a use shows in the sensors" }),
  })
  .meta({ description: "How long the old generation must be unused before it is given up" });

export const timing = z
  .strictObject({
    patience: someTime
      .default(30_000)
      .meta({ description: "How long an unmet claim is looked at again before the rotation holds" }),
    poll: someTime.default(1000).meta({ description: "Pause between two looks at an unmet claim" }),
    freshness: someTime.default(600_000).meta({ description: "Age at which a finding no longer counts" }),
    skew: duration.default(600_000).meta({ description: "Difference of clocks that must not matter" }),
    attempts: z.int().min(1).max(20).default(5).meta({ description: "Tries of a step that can be tried again" }),
  })
  .meta({ description: "How long to look and to wait" });
export type Timing = z.output<typeof timing>;

/**
 * `{ <driver key>: settings, validate: …, reload: … }` for every driver of some roles: exactly one key, and the fields
 * the catalogue lists as `beside` merged into its settings.
 */
function entryOf<R extends DriverRole>(roles: readonly R[], description: string): z.ZodType<DriverEntry<R>> {
  const drivers = roles.flatMap(driversOf);
  const shape: Record<string, z.ZodType> = {};
  for (const driver of drivers) {
    const inner: Record<string, z.ZodType> = {};
    for (const [field, type] of Object.entries<z.ZodType>(driver.settings.shape))
      if (driver.beside.includes(field)) shape[field] ??= type;
      else inner[field] = type;
    // The checks of the whole (exactly one of …) concern the fields that stay.
    const described = z
      .strictObject(inner)
      .check(...((driver.settings.def.checks ?? []) as z.core.$ZodCheck<Record<string, unknown>>[]));
    shape[driver.key] = described.optional().meta({ description: driver.settings.description ?? driver.key });
  }
  const keys = drivers.map((driver) => driver.key);
  const entry = z
    .strictObject(shape)
    .refine((given) => keys.filter((key) => given[key] !== undefined).length === 1, {
      message: keys.length === 1 ? `\`${keys[0]}\` is missing` : `give exactly one of ${keys.join(", ")}`,
    })
    .check((context) => {
      const driver = drivers.find((d) => context.value[d.key] !== undefined);
      const besides = new Set(drivers.flatMap(({ beside }) => beside));
      for (const field of besides)
        if (driver !== undefined && context.value[field] !== undefined && !driver.beside.includes(field))
          context.issues.push({
            ...{ code: "custom", input: context.value, path: [field] },
            message: `${driver.key} has no ${field}: only ${drivers.filter((d) => d.beside.includes(field)).map((d) => d.key)} has`,
          });
    })
    .meta({ description, oneOf: keys.map((key) => ({ required: [key] })) })
    .transform((given) => {
      const driver = drivers.find((d) => given[d.key] !== undefined)!;
      const beside = driver.beside.filter((field) => given[field] !== undefined).map((field) => [field, given[field]]);
      const settings = { ...(given[driver.key] as object), ...Object.fromEntries(beside) };
      return { key: driver.key, driver: driver.driver, role: driver.role, settings };
    });
  // The shape is made from the catalogue at run time; DriverEntry says the same at compile time.
  return entry as unknown as z.ZodType<DriverEntry<R>>;
}

const targetEntry = entryOf(["target"], "One place that stores the credential, and how its process learns of it");
const trustEntry = entryOf(
  ["trustStore"],
  "One place that lists what a verifier accepts, and how its process learns of it",
);
const proveEntry = entryOf(
  ["presenter", "verifier", "sensor"],
  "One way of looking: servers that present the credential, servers that check it, or a record of its use",
);

const crlProveEntry = entryOf(["verifier"], "Servers that refuse by this CRL");

export const crl = z
  .strictObject({
    lifetime: someTime.default(7 * 86_400_000).meta({ description: "From thisUpdate to nextUpdate; default 7d" }),
    renew: renew
      .prefault({ after: "50%" })
      .meta({ description: "When the next CRL is due; default after 50% of its lifetime" }),
    deliver: z.array(trustEntry).min(1, "at least one place for the CRL").meta({ description: "Where the CRL goes" }),
    prove: z.array(crlProveEntry).default([]).meta({
      description:
        "Servers that check it: each CRL lists a canary certificate, which each of them must be seen refusing",
    }),
    quiet: quiet.prefault({}),
    timing: timing.prefault({}),
  })
  .meta({ description: "The issuer's CRL: a credential named <issuer>.crl with due dates of its own" });

const head = {
  apiVersion: z.literal(API_VERSION).meta({ description: `Always ${API_VERSION}` }),
};
const metadata = z
  .strictObject({
    name: name.meta({ description: "Unique among the documents of its kind; part of file names and rotation ids" }),
  })
  .meta({ description: "Who it is" });

const issuerShape = Object.fromEntries(
  driversOf("issuer").map((d) => [d.key, d.settings.optional().meta({ description: d.settings.description ?? d.key })]),
) as {
  localCA: z.ZodOptional<z.ZodObject>;
  selfSigned: z.ZodOptional<z.ZodObject>;
  kubernetesCSR: z.ZodOptional<z.ZodObject>;
};

export const issuerSpec = z.strictObject({ ...issuerShape, crl: crl.optional() }).meta({
  description: "Which driver issues, with its settings",
  oneOf: driversOf("issuer").map((d) => ({ required: [d.key] })),
});

export const credentialSpec = z
  .strictObject({
    issue,
    renew: renew
      .prefault({ after: "66%" })
      .meta({ description: "When the next generation is due, and when it may be put in place" }),
    deliver: z
      .array(targetEntry)
      .min(1, "at least one place that stores the credential")
      .meta({ description: "Where each generation is stored" }),
    trust: z
      .array(trustEntry)
      .default([])
      .meta({ description: "Pins: places that list every accepted certificate; selects the overlap strategy" }),
    prove: z
      .array(proveEntry)
      .min(1, "at least one tls or mutualTls entry (without one there is nothing to prove with)")
      .meta({ description: "Where to look for the old and the new generation" }),
    revoke: z.boolean().optional().meta({
      description:
        "Revoke or unpin the old generation so that it can be seen refused; default where a verifier refuses by crl or pins",
    }),
    quiet: quiet.prefault({}),
    timing: timing.prefault({}),
    approval: z.literal("required").optional().meta({
      description:
        "Before the old one is taken away (or, where nothing is, before its key is destroyed) a named person's approval of the plan is waited for",
    }),
  })
  .meta({ description: "What to issue, where to deliver it, how to prove it" });

export const issuerDocument = z
  .strictObject({
    ...head,
    kind: z.literal("Issuer").meta({ description: "Issuer" }),
    metadata,
    spec: issuerSpec,
  })
  .meta({ description: "What makes generations" });

export const credentialDocument = z
  .strictObject({
    ...head,
    kind: z.literal("Credential").meta({ description: "Credential" }),
    metadata,
    spec: credentialSpec,
  })
  .meta({ description: "Something to rotate" });

export const clusterDocument = z
  .strictObject({
    ...head,
    kind: z.literal("Cluster").meta({ description: "Cluster" }),
    metadata,
    spec: clusterSettings,
  })
  .meta({ description: "A Kubernetes cluster that issuers and credentials name" });

export const documents = { Issuer: issuerDocument, Credential: credentialDocument, Cluster: clusterDocument } as const;
export type Kind = keyof typeof documents;

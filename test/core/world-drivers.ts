import { hash } from "node:crypto";
import type {
  CredentialHandle,
  Issued,
  IssueOrder,
  Issuer,
  Material,
  Member,
  Named,
  Presenter,
  ProbeResult,
  Sensor,
  Step,
  Stored,
  Target,
  TrustStore,
  Usage,
  Verifier,
} from "../../src/drivers/roles.ts";
import { GyreError } from "../../src/errors.ts";
import { parseCsr } from "../../src/pki/csr.ts";
import { signCertificate } from "../../src/pki/issue.ts";
import { Secret } from "../../src/pki/secret.ts";
import type { Bound, Parties } from "../../src/runtime/parties.ts";
import { hour, leafOf, type Replica, start, type World } from "./world.ts";

/** The world as the runtime sees it. Nothing here knows more than a driver of a real system would. */
export function partiesOfWorld(world: World): Parties {
  const bound = <T>(id: string, instance: T): Bound<T> => ({ id, driver: "world", instance });
  return {
    issuer: bound("ca", issuerOf(world)),
    targets: [bound("/etc/shop.pem", targetOf(world))],
    trustStores: [bound("/etc/trust.pem", trustStoreOf(world))],
    presenters: [bound("servers", presenterOf(world))],
    verifiers: [bound("verifiers", verifierOf(world))],
    sensors: [0, 1].map((index) => bound(`access-${index}.log`, sensorOf(world, index))),
  };
}

function issuerOf(world: World): Issuer {
  const asIssued = (pem: string): Issued => ({ certificate: pem, chain: "", roots: world.ca.certificate.pem });
  return {
    can: { revoke: true, ...(world.faults.forgetfulIssuer === true ? {} : { findAfterCrash: true }) },
    issue: (order, step) =>
      world.bounded("effect", async () => {
        if (world.since() < (world.faults.issuerAwayUntil ?? 0))
          throw new GyreError({
            code: "unreachable",
            message: "ca: connection refused; nothing issued",
            retry: "later",
          });
        const pem = sign(world, order);
        world.issued.push({ op: step.op, pem, revoked: false });
        world.act("issue");
        return asIssued(pem);
      }),
    find: async (op) => {
      const found = world.issued.find((one) => one.op === op);
      return found === undefined ? undefined : asIssued(found.pem);
    },
    retire: (generation) =>
      world.bounded("effect", async () => {
        for (const one of world.issued) if (leafOf(one.pem).fingerprint === generation.fingerprint) one.revoked = true;
        world.act(`retire ${generation.serial}`);
      }),
    publishCrl: async () => world.crl(),
  };
}

/** Not backdated: an authority with a clock like ours that writes the present second. */
function sign(world: World, order: IssueOrder): string {
  const csr = parseCsr(order.csr);
  const life = world.faults.shortLife === true ? order.lifetime / 2 : order.lifetime;
  const { subject, names, usages } = order;
  const notBefore = world.old === undefined ? world.now - hour : world.now;
  return signCertificate(world.ca, {
    spkiDer: csr.spkiDer,
    subject,
    names,
    usages,
    notBefore,
    notAfter: world.now + life,
  }).pem;
}

function targetOf(world: World): Target {
  const read = async (): Promise<Stored> => {
    if (world.stored === undefined) return { version: "absent", certificate: "" };
    const { certificate, key } = world.stored;
    return {
      version: hash("sha256", certificate),
      certificate,
      privateKey: key,
      ...(world.storeOp === undefined ? {} : { op: world.storeOp }),
    };
  };
  const unchanged = async (expected: string): Promise<void> => {
    if ((await read()).version !== expected)
      throw new GyreError({ code: "conflict", message: "/etc/shop.pem changed under us; nothing written" });
  };
  return {
    can: { reload: "command", restore: true, findAfterCrash: true, conditionalWrite: true },
    place: "/etc/shop.pem",
    read,
    deliver: (material: Material, expected, step: Step) =>
      world.bounded("effect", async () => {
        if (world.faults.foreignWrite === true && world.stored !== undefined)
          world.stored = { ...world.stored, certificate: world.ca.certificate.pem };
        await unchanged(expected);
        world.previous = world.stored;
        world.stored = { certificate: material.certificate, chain: material.chain, key: material.privateKey! };
        world.storeOp = step.op;
        world.act("deliver");
        return read();
      }),
    restore: (expected) =>
      world.bounded("effect", async () => {
        await unchanged(expected);
        world.stored = world.previous;
        world.act("restore");
        return read();
      }),
    reload: () => reload(world),
    forget: () =>
      world.bounded("effect", async () => {
        world.previous = undefined;
        world.act("forget");
      }),
  };
}

const reload = (world: World): Promise<string> =>
  world.bounded("effect", async () => {
    world.reloadAll();
    world.act("reload");
    return "reloaded";
  });

function trustStoreOf(world: World): TrustStore {
  return {
    can: { reload: "command", conditionalWrite: true },
    place: "/etc/trust.pem",
    holds: world.strategy === "overlap" ? "certificates" : "crls",
    read: async () => ({ version: hash("sha256", world.trust), pem: world.trust }),
    put: (pem, expected) =>
      world.bounded("effect", async () => {
        if (hash("sha256", world.trust) !== expected)
          throw new GyreError({ code: "conflict", message: "/etc/trust.pem changed under us" });
        world.trust = pem;
        world.act("put");
        return { version: hash("sha256", pem) };
      }),
    reload: () => reload(world),
  };
}

function membersOf(world: World): Member[] {
  if (world.within(world.faults.uncounted))
    throw new GyreError({ code: "unreachable", message: "the list of servers could not be had" });
  return world.replicas.filter((one) => !one.gone).map(({ id }) => ({ id, address: id }));
}

/** The replica behind a member; undefined while nobody answers there. */
function answering(world: World, member: Member): Replica | undefined {
  world.advance(world.faults.latency ?? 0);
  const replica = world.replicas.find(({ id }) => id === member.id);
  return replica === undefined || replica.gone || world.isDown(replica) ? undefined : replica;
}

const noAnswer: ProbeResult = { saw: "unknown", why: "connection refused" };

function presenterOf(world: World): Presenter {
  return {
    can: { reload: "command" },
    members: async () => membersOf(world),
    probe: async (member) => {
      const replica = answering(world, member);
      return replica === undefined ? noAnswer : { saw: "presented", chain: [leafOf(replica.certificate).fingerprint] };
    },
  };
}

function verifierOf(world: World): Verifier {
  const probe = async (member: Member, credential: CredentialHandle, step: Step): Promise<ProbeResult> => {
    const replica = answering(world, member);
    if (replica === undefined) return noAnswer;
    const verdict = world.judge(replica, credential);
    if (verdict !== "accepted") return { saw: "refused", code: verdict };
    world.record(world.now, credential.serial, step.tag, replica.id);
    return { saw: "accepted", as: credential.serial };
  };
  return {
    can: { canRefuse: true, sessions: true },
    members: async () => membersOf(world),
    probe,
    session: async (member, credential, step) =>
      (await probe(member, credential, step)).saw === "accepted" ? Secret.of(`session of ${member.id}`) : undefined,
    resume: async (member, _, credential, step) => {
      const replica = answering(world, member);
      if (replica === undefined) return noAnswer;
      if (world.since() < (world.faults.resumesUntil ?? 0)) return { saw: "accepted", as: credential.serial };
      return probe(member, credential, step);
    },
  };
}

function sensorOf(world: World, index: number): Sensor {
  const member = `replica-${index}`;
  return {
    can: { seesUse: true },
    place: `access-${index}.log`,
    member,
    alive: async (tag) => world.uses.some((use) => use.tag === tag && use.member === member),
    usage: async (of: Named, since, ours): Promise<Usage> => {
      const uses = world.uses.filter(
        (use) =>
          use.serial === of.serial &&
          use.member === member &&
          use.at >= since &&
          !(use.tag?.startsWith(`${ours}.`) ?? false),
      );
      const last = uses.at(-1)?.at;
      const gap = world.faults.sensorGap?.sensor === index ? world.faults.sensorGap.span : undefined;
      const touched = gap !== undefined && world.since() >= gap[0] && start + gap[1] > since;
      return {
        count: uses.length,
        from: ["10.9.9.9"],
        ...(last === undefined ? {} : { last }),
        ...(touched ? { gap: "the log was not written", gapUntil: Math.min(world.now, start + gap[1]) } : {}),
      };
    },
  };
}

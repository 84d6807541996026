import type { Ports } from "../../src/runtime/ports.ts";

/**
 * Ports that count every append and every effect, and call `at` before and after each. The code under test is the same:
 * only what it is handed is wrapped.
 */
export function withBoundaries(ports: Ports, at: (when: "before" | "after", what: string) => void): Ports {
  const bounded = <T extends object>(instance: T, methods: readonly string[], what: string): T =>
    new Proxy(instance, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        const call = value as (...args: unknown[]) => unknown;
        if (!methods.includes(String(name))) return call.bind(target);
        return async (...args: unknown[]) => {
          at("before", `${what}.${String(name)}`);
          const result = await call.apply(target, args);
          at("after", `${what}.${String(name)}`);
          return result;
        };
      },
    });
  const { issuer, targets, trustStores } = ports.parties;
  return {
    ...ports,
    journal: bounded(ports.journal, ["append"], "journal"),
    secrets: bounded(ports.secrets, ["put", "delete"], "secrets"),
    evidence: bounded(ports.evidence, ["put"], "evidence"),
    parties: {
      ...ports.parties,
      issuer: { ...issuer, instance: bounded(issuer.instance, ["issue", "retire", "publishCrl"], "issuer") },
      targets: targets.map((one) => ({
        ...one,
        instance: bounded(one.instance, ["deliver", "restore", "reload", "forget"], "target"),
      })),
      trustStores: trustStores.map((one) => ({ ...one, instance: bounded(one.instance, ["put", "reload"], "store") })),
    },
  };
}

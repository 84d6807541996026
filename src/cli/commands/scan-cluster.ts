import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { GyreError } from "../../errors.ts";
import type { ClusterToScan } from "../../scan/kubernetes/scan.ts";
import type { Session } from "../session.ts";

export interface ClusterFlags {
  readonly kubernetes?: boolean;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace?: readonly string[];
  readonly printRbac?: boolean;
}

/**
 * The cluster that the flags mean, as kubectl would find it: --kubeconfig, KUBECONFIG, ~/.kube/config, the pod's own.
 * Undefined without --kubernetes. @throws GyreError `input` for flags that mean nothing together
 */
export function clusterOf(
  session: Session,
  targets: readonly string[],
  flags: ClusterFlags,
): ClusterToScan | undefined {
  const { kubernetes, kubeconfig, context, namespace, printRbac } = flags;
  if (kubernetes !== true) {
    const lone = Object.entries({ kubeconfig, context, namespace, "print-rbac": printRbac }).find(
      ([, value]) => value !== undefined,
    );
    if (lone !== undefined) throw wrong(`--${lone[0]} is for a cluster`, "add --kubernetes");
    if (targets.length === 0)
      throw wrong("there is nothing to scan", "name a host:port, a file or a directory, or give --kubernetes");
    return undefined;
  }
  const file = kubeconfig === undefined ? fromEnvironment(session) : resolve(session.cwd, kubeconfig);
  return {
    ...(file === undefined ? {} : { kubeconfig: file }),
    ...(context === undefined ? {} : { context }),
    namespaces: [...new Set(namespace ?? [])],
  };
}

function fromEnvironment({ env, cwd }: Session): string | undefined {
  const named = (env.KUBECONFIG ?? "").split(delimiter).filter((path) => path !== "");
  if (named.length > 1)
    throw wrong("KUBECONFIG names several files, which are not merged here", "name one with --kubeconfig");
  if (named[0] !== undefined) return resolve(cwd, named[0]);
  const usual = join(env.HOME ?? homedir(), ".kube", "config");
  return existsSync(usual) ? usual : undefined;
}

const wrong = (what: string, next: string): GyreError =>
  new GyreError({ code: "input", message: `${what}; nothing was done`, next });

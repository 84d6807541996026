/** Lines about those who use the old kubeconfig unseen: 8, 16. */
import { renameSync } from "node:fs";
import { undeclared } from "../kubernetes/estate.ts";
import { closed, type Expected } from "../scene.ts";
import type { ClusterScene } from "./kubernetes-api-servers.ts";

const atQuiet = (words: RegExp, ...names: string[]): Expected => ({ result: "held", names, words });

const old = "a pooled connection keeps the old identity";

export const undeclaredKubeconfig: ClusterScene = {
  ...{ line: 8, name: "k8s undeclared", fault: old },
  how: "a copy of the kubeconfig that is in no manifest is used again and again at one API server",
  acts: (estate) => {
    const somebody = undeclared(estate, 2, "again and again");
    return [
      {
        title: "fault",
        change: () => somebody.start(),
        looks: [somebody.look],
        expect: atQuiet(/^held at quiet.*by \S+ kubectl/, estate.api(2).auditLog),
      },
      { title: "stopped", change: () => somebody.stop(), expect: closed("DENIED") },
    ];
  },
};

export const openWatch: ClusterScene = {
  ...{ line: 8, name: "k8s watch", fault: old },
  how: "one watch was opened with the old kubeconfig before the rotation and stays open: no request of it comes any more",
  acts: (estate) => {
    const watch = undeclared(estate, 2, "one watch");
    return [
      {
        title: "fault",
        change: () => watch.start(),
        looks: [watch.look],
        expect: atQuiet(/^held at quiet.*by \S+ kubectl/, estate.api(2).auditLog),
      },
      { title: "stopped", change: () => watch.stop(), expect: closed("DENIED") },
    ];
  },
};

export const auditGap: ClusterScene = {
  ...{ line: 16, name: "k8s audit-gap", fault: "the sensor has a gap" },
  how: "the audit log of one API server was moved away, it goes on writing there, and the old one is used at that server",
  acts: (estate) => {
    const somebody = undeclared(estate, 2, "again and again");
    const { auditLog } = estate.api(2);
    const away = auditLog.replace(/audit\.log$/, "elsewhere");
    const back = () => renameSync(away, auditLog);
    return [
      {
        title: "fault",
        async change() {
          renameSync(auditLog, away);
          estate.mend(() => {
            try {
              back();
            } catch {
              // It is back.
            }
          });
          await somebody.start();
        },
        looks: [somebody.look],
        expect: atQuiet(/^held at quiet/, auditLog),
      },
      { title: "log back, still used", change: back, expect: atQuiet(/^held at quiet.*by \S+ kubectl/, auditLog) },
      { title: "stopped", change: () => somebody.stop(), expect: closed("DENIED") },
    ];
  },
};

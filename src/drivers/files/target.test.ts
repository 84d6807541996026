import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { testCa, testMaterial, testStep } from "../conformance/material.ts";
import { targetConformance } from "../conformance/target.ts";
import { targetSettings } from "./settings.ts";
import { createFilesTarget } from "./target.ts";

async function directory(): Promise<string> {
  return mkdtemp(join(tmpdir(), "gyre-files-"));
}

const shapes = {
  "certificate and key, switched": { certificate: "tls.pem", privateKey: "tls.key" },
  "certificate, chain and key, switched": { certificate: "tls.pem", privateKey: "tls.key", chain: "chain.pem" },
  "certificate and key, renamed": { certificate: "tls.pem", privateKey: "tls.key", layout: "rename" },
  "combined, renamed": { combined: "tls.pem" },
  "combined, switched": { combined: "tls.pem", layout: "switch" },
  "PKCS#12, renamed": { keystore: { path: "tls.pem", password: "changeit" } },
  "JKS and PEM, switched": {
    certificate: "tls.pem",
    privateKey: "tls.key",
    keystore: { path: "tls.jks", password: "changeit", format: "jks" },
  },
};

for (const [name, shape] of Object.entries(shapes)) {
  targetConformance(`files (${name})`, async () => {
    const baseDir = await directory();
    const settings = targetSettings.parse(shape);
    return {
      open: () => createFilesTarget(settings, { baseDir }),
      tamper: async () => {
        // A key store must stay readable: another one, not a damaged one.
        if ("combined" in shape || "certificate" in shape) {
          await rm(join(baseDir, "tls.pem"));
          await writeFile(join(baseDir, "tls.pem"), "somebody else's\n");
          return;
        }
        const elsewhere = await directory();
        const other = createFilesTarget(settings, { baseDir: elsewhere });
        await other.deliver(await testMaterial(await testCa()), "absent", testStep());
        await copyFile(other.place, join(baseDir, "tls.pem"));
        await rm(elsewhere, { recursive: true });
      },
      close: () => rm(baseDir, { recursive: true }),
    };
  });
}

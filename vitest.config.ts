import { defineConfig } from "vitest/config";

/**
 * core   needs nothing but Node, openssl, Go and Java: the engine, pki, journal, receipt, manifest, cli, drivers on files
 * peers  starts real servers from lab/: one file at a time, since two cores carry several of them
 * crash  kills real processes at every boundary
 */
const common = { pool: "forks" as const, testTimeout: 120_000, hookTimeout: 300_000 };
export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: "core", include: ["src/**/*.test.ts", "test/core/**/*.test.ts"] } },
      { test: { ...common, name: "peers", include: ["src/**/*.peer.ts", "lab/**/*.peer.ts", "test/peers/**/*.test.ts"], maxWorkers: 1, testTimeout: 300_000 } },
      { test: { ...common, name: "crash", include: ["test/crash/**/*.test.ts"], maxWorkers: 2, testTimeout: 600_000 } },
    ],
  },
});

import { defineConfig } from "vitest/config";

// Two kinds of tests: `core` needs nothing but Node and openssl; `peers` starts real servers from lab/.
export default defineConfig({
  test: {
    pool: "forks",
    testTimeout: 60_000,
    hookTimeout: 120_000,
    projects: [
      { extends: true, test: { name: "core", include: ["src/**/*.test.ts", "test/core/**/*.test.ts"] } },
      { extends: true, test: { name: "peers", include: ["src/**/*.peer.ts", "test/peers/**/*.test.ts"], maxWorkers: 1, testTimeout: 180_000 } },
    ],
  },
});

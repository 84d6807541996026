import { defineConfig } from "vitest/config";

/**
 * core   `npm run check`: nothing but Node, openssl and Go; a minute or two
 * long   fuzzing, crashes, full disks and real processes: needs root, Java, HAProxy, zsh and fish besides
 * peers  starts real servers from lab/: one file at a time, since two cores carry several of them
 * kubernetes  the same with a control plane: etcd, three API servers, a controller manager
 * crash  SIGKILL at every boundary of a real rotation
 */
const common = { pool: "forks" as const, testTimeout: 180_000, hookTimeout: 300_000 };
const long = [
  "src/**/{fuzz,*-fuzz}.test.ts",
  "src/**/*-crash.test.ts",
  "src/pki/{chain,issue,stores}.test.ts",
  "src/journal/jsonl.test.ts",
  "src/receipt/envelope.test.ts",
  "src/runtime/crl-places.test.ts",
  "src/drivers/kubernetes/audit-receiver.test.ts",
  "src/drivers/{files,local-ca}/*.test.ts",
  "src/cli/{completion,estate,launcher,package,scan}.test.ts",
  "src/runtime/doctor/*.test.ts",
  "test/core/{crash,truth,two-runners}.test.ts",
];
const kubernetes = ["src/drivers/kubernetes/*.peer.ts", "src/**/kubernetes.peer.ts", "test/kubernetes/**/*.test.ts"];
export default defineConfig({
  test: {
    projects: [
      { test: { ...common, name: "core", include: ["src/**/*.test.ts", "test/core/**/*.test.ts"], exclude: long } },
      { test: { ...common, name: "long", include: long, testTimeout: 300_000 } },
      {
        test: {
          ...common,
          name: "peers",
          include: ["src/**/*.peer.ts", "lab/**/*.peer.ts", "test/peers/**/*.test.ts"],
          exclude: kubernetes,
          fileParallelism: false,
          testTimeout: 300_000,
        },
      },
      {
        test: {
          ...common,
          name: "kubernetes",
          include: kubernetes,
          fileParallelism: false,
          testTimeout: 300_000,
        },
      },
      { test: { ...common, name: "crash", include: ["test/crash/**/*.test.ts"], testTimeout: 1_800_000 } },
    ],
  },
});

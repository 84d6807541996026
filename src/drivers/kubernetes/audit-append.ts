import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Appends whole lines and returns once the disk has them. What a failed attempt left (a full disk, a receiver that was
 * killed) is cut off again: nobody was told that it is there.
 * @throws what the file system says
 */
export async function appendLines(path: string, text: string): Promise<void> {
  const { O_RDWR, O_CREAT, O_APPEND } = constants;
  const file = await open(path, O_RDWR | O_CREAT | O_APPEND, 0o600);
  try {
    const size = await cutUnfinished(file);
    try {
      await file.writeFile(text);
      await file.datasync();
    } catch (error) {
      await file.truncate(size).catch(() => undefined);
      throw error;
    }
    // A file that is new must also be found again after a power cut.
    if (size === 0) await syncDirectory(dirname(path));
  } finally {
    await file.close();
  }
}

/** Cuts off what stands behind the last newline; gives the size. */
async function cutUnfinished(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const chunk = Buffer.alloc(64 * 1024);
  for (let end = size; end > 0; ) {
    const from = Math.max(0, end - chunk.length);
    const { bytesRead } = await file.read(chunk, 0, end - from, from);
    const at = chunk.subarray(0, bytesRead).lastIndexOf(10);
    if (at >= 0) {
      const whole = from + at + 1;
      if (whole < size) await file.truncate(whole);
      return whole;
    }
    end = from;
  }
  if (size > 0) await file.truncate(0);
  return 0;
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

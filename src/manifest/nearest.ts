export { editDistance, nearest } from "../drivers/nearest.ts";

// Reads a sealed log with DuckDB, as anyone may without Tradewind: node duckdb.mjs 'GLOB' 'SQL with {parts}'.
import { DuckDBInstance } from "@duckdb/node-api";

const [glob, sql] = process.argv.slice(2);
const db = await DuckDBInstance.create(":memory:");
const connection = await db.connect();
const rows = await connection.runAndReadAll(sql.replaceAll("{parts}", `read_parquet('${glob}')`));
console.log(JSON.stringify(rows.getRowObjectsJson()));

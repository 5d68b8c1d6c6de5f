"""The same sessions with Spark Structured Streaming: availableNow, session_window, Parquet out.

    python bench/peer_spark.py FILE OUTDIR

Prints one JSON line. The time begins when Spark is up, so starting the JVM is not held against it. Sessions only:
no dedupe, transitions, paths or funnels.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
from measure import Meter

CORES = 2
SCHEMA = "anonymousId STRING, userId STRING, timestamp TIMESTAMP"
# One event of nobody, long after all others: it moves the watermark past every session, so that Spark closes them.
CLOSING = '{"anonymousId":"(closing)","userId":null,"timestamp":"2100-01-01T00:00:00.000Z"}\n'


def start_spark(scratch: Path) -> Any:
    """Return a local session on two cores; pyspark is imported here because only the benchmark has it."""
    sql = importlib.import_module("pyspark.sql")
    settings = {
        "spark.sql.shuffle.partitions": str(CORES),
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": "6g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(scratch / "unused"),
        "spark.local.dir": str(scratch / "local"),
    }
    builder = sql.SparkSession.builder.master(f"local[{CORES}]").appName("sessions")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def lay_input(file: Path, folder: Path) -> Path:
    """Return a folder with the file, linked, and the closing event."""
    folder.mkdir(parents=True)
    (folder / "events.json").symlink_to(file.resolve())
    (folder / "closing.json").write_text(CLOSING)
    return folder


def write_sessions(spark: Any, source: Path, out: Path) -> None:
    """Run the query over all that is there and return when it has ended."""
    f = importlib.import_module("pyspark.sql.functions")
    person = f.coalesce("userId", "anonymousId").alias("person_id")
    events = spark.readStream.schema(SCHEMA).json(str(source)).withWatermark("timestamp", "60 seconds")
    window = f.session_window("timestamp", "30 minutes").alias("session")
    sessions = (
        events.groupBy(person, window)
        .agg(f.count("*").alias("events"), f.min("timestamp").alias("started_at"), f.max("timestamp").alias("ended_at"))
        .drop("session")
    )
    query = (
        sessions.writeStream.format("parquet")
        .option("path", str(out / "sessions"))
        .option("checkpointLocation", str(out / "checkpoint"))
        .option("compression", "zstd")
        .outputMode("append")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()


def stop_spark(spark: Any) -> None:
    """Stop Spark and wait for its JVM, so that the kernel counts what it used."""
    gateway = spark.sparkContext._gateway
    jvm = gateway.proc
    spark.stop()
    gateway.shutdown()
    jvm.stdin.close()
    jvm.wait()


def main() -> None:
    """Run the query on one file and print its cost and figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    whole = Meter()
    spark = start_spark(given.out)
    source = lay_input(given.file, given.out / "input")
    startup = whole.read().seconds
    write_sessions(spark, source, given.out)
    seconds = whole.read().seconds - startup
    stop_spark(spark)
    # CPU and memory are the JVM's, known only now and with its start among them.
    cost = whole.read().to_dict() | {"seconds": round(seconds, 3), "startup_seconds": round(startup, 3)}
    with duckdb.connect() as connection:
        query = f"SELECT sum(events)::BIGINT, count(*) FROM read_parquet('{given.out}/sessions/*.parquet')"
        events, sessions = connection.execute(query).fetchone() or (0, 0)
    print(json.dumps({**cost, "events": events, "sessions": sessions}))


if __name__ == "__main__":
    main()

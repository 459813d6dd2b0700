"""Predict how late a flight arrives, from the weather, its carrier and its plane: the whole platform on real data.

    mlplat server                              # in another terminal
    pip install -r examples/flight_delays/requirements.txt
    python examples/flight_delays/main.py

Every prediction is made at the scheduled departure, with what was known by then: mlplat.features takes care of that. The
training set, the run, the model version and where it all came from are recorded along the way.
"""

from __future__ import annotations

import os
import pickle
from datetime import datetime, timedelta, timezone
from pathlib import Path

import matplotlib
import mlplat
import numpy as np
import pandas as pd
import polars as pl
from data import prepare
from mlplat.features import Entity, FeatureService, FeatureView, ParquetSource, SqlSource
from sklearn.ensemble import HistGradientBoostingRegressor

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("FLIGHT_DELAYS_CACHE", ROOT / ".cache" / "flight_delays"))
# Columns of the flight itself, known at any time before it.
OWN = ["origin", "dest", "carrier", "distance", "month", "weekday", "hour"]
CATEGORIES = ["origin", "dest", "carrier"]
# The moment at which live requests are scored: a busy Friday afternoon (20:00 UTC is 15:00 in New York).
NOW = datetime(2013, 12, 20, 20, tzinfo=timezone.utc)


def define(tables: Path) -> FeatureService:
    """Says what features there are, and brings the project to that."""
    origin = Entity("origin", join_keys=["origin"], description="Airport of departure")
    carrier = Entity("carrier", join_keys=["carrier"], description="Airline")
    plane = Entity("plane", join_keys=["tailnum"], description="Aircraft")

    flights = ParquetSource(tables / "flights.parquet", timestamp="landed_at")
    planes = ParquetSource(tables / "planes.parquet")
    weather = FeatureView(
        "weather",
        entities=[origin],
        ttl=timedelta(hours=3),
        source=ParquetSource(tables / "weather.parquet", timestamp="time_hour"),
        features=["temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"],
        description="Hourly weather at the airport of departure",
    )
    # One row per landing, so what it says was known at that time: no flight that is still in the air counts.
    carrier_delays = FeatureView(
        "carrier_delays",
        entities=[carrier],
        source=SqlSource(
            """
            SELECT carrier, landed_at,
                   avg(arr_delay) OVER week AS delay_7d,
                   avg(CASE WHEN arr_delay > 30 THEN 1 ELSE 0 END) OVER week AS late_share_7d,
                   count(*) OVER week AS flights_7d
            FROM flights
            WHERE arr_delay IS NOT NULL
            WINDOW week AS (PARTITION BY carrier ORDER BY landed_at
                            RANGE BETWEEN INTERVAL '7 days' PRECEDING AND CURRENT ROW)
            """,
            timestamp="landed_at",
        ),
        features=["delay_7d", "late_share_7d", "flights_7d"],
        description="Delays of the carrier's flights that landed in the last 7 days",
    )
    aircraft = FeatureView(
        "aircraft",
        entities=[plane],
        source=SqlSource("SELECT tailnum, 2013 - year AS age, seats FROM planes"),
        features=["age", "seats"],
        description="Age and size of the aircraft",
    )
    service = FeatureService("arrival_delay", [weather, carrier_delays, aircraft])
    mlplat.features.apply(
        [flights, planes, origin, carrier, plane, weather, carrier_delays, aircraft, service]
    )
    return service


def training_table(flights: pl.DataFrame, service: FeatureService) -> pd.DataFrame:
    """All flights with their features as they were known at the scheduled departure."""
    train = mlplat.features.historical(flights, service, timestamp="departure", name="flights-2013")
    print(train)
    return train.to_pandas()


def inputs(frame: pd.DataFrame) -> pd.DataFrame:
    """What the model sees of a table of flights with features."""
    return frame.drop(columns=["flight", "tailnum", "departure", "landed_at", "arr_delay"], errors="ignore")


def fit(frame: pd.DataFrame, run: mlplat.ActiveRun) -> tuple[HistGradientBoostingRegressor, pd.DataFrame]:
    """Trains on the first nine months and evaluates on the rest; returns the model and the rest."""
    frame = frame.dropna(subset="arr_delay")
    frame = frame.astype(dict.fromkeys(CATEGORIES, "category"))
    past, rest = frame.query("month <= 9"), frame.query("month > 9")
    settings = {"max_iter": 150, "learning_rate": 0.08, "max_leaf_nodes": 63, "loss": "squared_error"}
    run.log_params({**settings, "train_rows": len(past), "test_rows": len(rest)})

    model = HistGradientBoostingRegressor(**settings, categorical_features="from_dtype", random_state=1)
    model.fit(inputs(past), past["arr_delay"])

    # The learning curve, on a part of the rest that is large enough.
    sample = rest.sample(20_000, random_state=1)
    for step, predicted in enumerate(model.staged_predict(inputs(sample))):
        run.log_metric("sample_mae", np.abs(predicted - sample["arr_delay"]).mean(), step=step)

    residual = rest["arr_delay"] - model.predict(inputs(rest))
    baseline = rest["arr_delay"] - past["arr_delay"].mean()
    scores = {"mae": residual.abs().mean(), "rmse": np.sqrt((residual**2).mean())}
    run.log_metrics({**scores, "baseline_mae": baseline.abs().mean()})
    return model, rest


def residual_plot(model: HistGradientBoostingRegressor, rest: pd.DataFrame, path: Path) -> None:
    """Draws how far the predictions are off."""
    predicted = model.predict(inputs(rest))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.hexbin(predicted, rest["arr_delay"] - predicted, bins="log", extent=(-30, 90, -100, 200))
    left.axhline(0, color="white", linewidth=0.8)
    left.set(xlabel="predicted delay (min)", ylabel="residual (min)")
    right.hist(rest["arr_delay"] - predicted, bins=100, range=(-100, 200))
    right.set(xlabel="residual (min)", ylabel="flights")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def serve(
    model: HistGradientBoostingRegressor, rest: pd.DataFrame, flights: pl.DataFrame, service: FeatureService
) -> None:
    """Scores the next departures from online features, and checks these against the offline ones."""
    mlplat.features.materialize(["weather", "carrier_delays", "aircraft"], end=NOW)
    soon = flights.filter(pl.col("departure").is_between(NOW, NOW + timedelta(hours=2)))
    requests = soon.select([*OWN, "tailnum"]).unique("carrier", keep="first", maintain_order=True)

    online = mlplat.features.online(requests.to_dicts(), service, at=NOW)
    known_then = requests.with_columns(departure=pl.lit(NOW).cast(pl.Datetime("us", "UTC")))
    offline = mlplat.features.historical(known_then, service, timestamp="departure", name="online-check")

    names = [name for name in online.column_names if name not in requests.columns]
    same = pl.DataFrame(online).select(names).equals(pl.DataFrame(offline).select(names))
    if not same:
        raise SystemExit(f"online and offline features differ:\n{online}\n{offline}")
    print(f"\nonline = offline: {len(requests)} requests, {len(names)} features each, all equal")

    frame = online.to_pandas()
    for name in CATEGORIES:
        frame[name] = frame[name].astype(rest[name].dtype)
    columns = list(model.feature_names_in_)
    for request, minutes in zip(requests.to_dicts(), model.predict(frame[columns]), strict=True):
        print(f"  {request['carrier']} {request['origin']} -> {request['dest']}: {minutes:+.0f} min expected")


def show_lineage(version: mlplat.ModelVersion) -> None:
    """Prints and draws where the model version came from."""
    graph = mlplat.lineage.upstream(version)
    print()
    graph.show()
    waypoints = ["feature_views/weather", "flights-2013", "flight-delays", f"models/{version.name}"]
    path = graph.path("weather.parquet", *waypoints)
    print("\nfrom the raw table to the model:\n  " + "\n  -> ".join(str(node) for node in path))
    picture = CACHE / "lineage.svg"
    picture.write_text(graph.to_svg(), encoding="utf-8")
    print(f"\nlineage drawn in {picture}")


def main() -> None:
    """The whole example."""
    tables = prepare(CACHE)
    flights = pl.read_parquet(tables / "flights.parquet")
    mlplat.connect()
    service = define(tables)

    with mlplat.start_run(experiment="flight-delays", name="gradient boosting") as run:
        frame = training_table(flights, service)
        model, rest = fit(frame, run)
        residual_plot(model, rest, CACHE / "residuals.png")
        run.log_artifact(CACHE / "residuals.png")
        (CACHE / "model.pkl").write_bytes(pickle.dumps(model))
        version = run.publish_model("arrival-delay", CACHE / "model.pkl")

    done = mlplat.get_run(run.id)
    print(f"\nrun {done.id} {done.status}")
    print("  " + ", ".join(f"{name} {value:.2f}" for name, value in sorted(done.metrics.items())))
    curve = done.metric_history("sample_mae").to_arrow()["value"]
    print(
        f"  learning curve: {len(curve)} points, from {curve[0].as_py():.2f} to {curve[-1].as_py():.2f} min"
    )
    print(f"model version {version.name} {version.version}: {version.files[0].path}")

    serve(model, rest, flights, service)
    show_lineage(version)


if __name__ == "__main__":
    main()

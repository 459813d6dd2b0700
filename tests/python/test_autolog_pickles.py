"""What autologging patches can be pickled, and pickles of models know nothing of autologging."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import mlplat
import sklearn.metrics
from autolog_runs import RX, only_run, ry
from sklearn.metrics import accuracy_score as imported_before

# A script whose estimators are stored by value.
SCRIPT = """
import functools, sys
import mlplat
mlplat.autolog()
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import mean_absolute_error
from sklearn.utils.metaestimators import available_if

class Mean(RegressorMixin, BaseEstimator):
    def __init__(self, factor=1.0):
        self.factor = factor
    def fit(self, X, y):
        self.mean_ = self.factor * np.mean(y)
        self.error_ = mean_absolute_error(y, np.full(len(y), self.mean_))
        return self
    def predict(self, X):
        return np.full(len(X), self.mean_)
    @available_if(lambda self: True)
    def decision_function(self, X):
        return self.predict(X) - mean_absolute_error([1.0], [3.0])

if __name__ == "__main__":
    with mlplat.start_run() as run:
        Mean(2.0).fit(np.ones((4, 2)), np.arange(4.0))
        {more}
"""
# Another process, which has no mlplat.
READER = """
import pickle, sys
sys.modules["mlplat"] = None
with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
print(model.fit([[1.0]] * 2, [1.0, 3.0]).predict([[5.0]]), model.decision_function([[5.0]]))
"""


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_estimators_of_scripts_are_stored_without_our_patches(project: str, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("{more}", ""))
    run(str(script))
    stored = only_run().download_artifact("model/model.pkl")
    assert b"mlplat" not in Path(stored).read_bytes()
    reader = tmp_path / "read.py"
    reader.write_text(READER)
    assert run(str(reader), stored) == "[4.] [2.]\n"
    # Where it is loaded beside mlplat, it can be trained again, and the script goes on logging.
    again = mlplat.load_model(f"runs:/{only_run().id}/model")
    assert again.fit(RX, ry).predict(RX[:1]) == 2 * ry.mean()


def test_the_patches_stay_in_the_script_whose_estimators_were_stored(project: str, tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace("{more}", "Mean(3.0).fit(np.ones((4, 2)), np.arange(4.0))"))
    run(str(script))
    assert only_run().metric_summaries["training_score"].count == 2


def test_watched_metrics_are_found_by_name(logged: str):
    metric = sklearn.metrics.accuracy_score
    assert metric is not imported_before
    assert pickle.loads(pickle.dumps(metric)) is metric
    assert pickle.loads(pickle.dumps(imported_before)) is imported_before
    assert b"mlplat" not in pickle.dumps(sklearn.metrics.make_scorer(metric))
    assert pickle.loads(pickle.dumps(sklearn.metrics.get_scorer("accuracy")))
    assert (metric.__name__, metric.__module__) == ("accuracy_score", "sklearn.metrics")
    assert metric.__doc__ == imported_before.__doc__
    assert inspect.unwrap(metric) is inspect.unwrap(imported_before)
    assert inspect.signature(metric) == inspect.signature(imported_before)


# A script that sends its estimators to worker processes, and stores them, by itself.
WORKERS = """
import functools, sys
import cloudpickle
import mlplat
mlplat.autolog()
import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.metaestimators import available_if

class Mean(RegressorMixin, BaseEstimator):
    def __init__(self, factor=1.0):
        self.factor = factor
    def fit(self, X, y):
        self.mean_ = self.factor * np.mean(y)
        return self
    def predict(self, X):
        return np.full(len(X), self.mean_)
    @available_if(lambda self: True)
    def decision_function(self, X):
        return self.predict(X)
    def score(self, X, y):
        return -mean_absolute_error(y, self.predict(X))

class Known(Ridge):
    fit = Mean.fit
    predict = Mean.predict
    factor = 1.0

def job(factor):
    return Mean(factor).fit(X, y).score(X, y)

X, y = np.ones((40, 2)), np.arange(40.0)
Ridge().fit(X, y)
fitted = Mean().fit(X, y)
expected = [job(factor) for factor in (1.0, 2.0)]
assert len(cross_val_score(Mean(), X, y, n_jobs=2)) == 5
assert GridSearchCV(Mean(), {"factor": [1.0, 2.0]}, n_jobs=2, error_score="raise").fit(X, y).best_params_
assert Parallel(2)(delayed(job)(factor) for factor in (1.0, 2.0)) == expected
stored = [fitted, Mean, Known().fit(X, y), fitted.score, fitted.decision_function, Mean.score, job]
with open(sys.argv[1], "wb") as file:
    cloudpickle.dump(stored, file)
assert cloudpickle.loads(cloudpickle.dumps(Ridge.fit)) is Ridge.fit
assert cloudpickle.loads(cloudpickle.dumps(mean_absolute_error)) is mean_absolute_error
before = len(list(mlplat.find_runs()))
Mean(3.0).fit(X, y)
assert len(list(mlplat.find_runs())) == before + 1
"""
READER_OF_STORED = """
import pickle, sys
sys.modules["mlplat"] = None
with open(sys.argv[1], "rb") as file:
    fitted, kind, known, score, decision, function, job = pickle.load(file)
X, y = [[1.0, 1.0]] * 2, [1.0, 3.0]
print(fitted.predict(X), kind(2.0).fit(X, y).score(X, y), known.predict(X), score(X, y), decision(X), function(fitted, X, y))
"""


def test_estimators_of_scripts_reach_workers_and_pickles_of_the_user(project: str, tmp_path: Path):
    script, reader, stored = tmp_path / "train.py", tmp_path / "read.py", tmp_path / "stored.pkl"
    script.write_text(WORKERS)
    run(str(script), str(stored))
    assert b"mlplat" not in stored.read_bytes()
    reader.write_text(READER_OF_STORED)
    assert run(str(reader), str(stored)) == "[19.5 19.5] -2.0 [19.5 19.5] -17.5 [19.5 19.5] -17.5\n"


def test_picklers_are_as_they_were_once_autologging_is_off(logged: str):
    import cloudpickle

    assert hasattr(cloudpickle.Pickler._function_reduce, "__wrapped__")
    mlplat.autolog(disable=True)
    assert not hasattr(cloudpickle.Pickler._function_reduce, "__wrapped__")
    assert cloudpickle.loads(cloudpickle.dumps(lambda: 7))() == 7

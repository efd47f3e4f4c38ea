"""XGBoost's and LightGBM's models through onnxmltools."""

import lightgbm
import numpy as np
import xgboost
from onnxmltools.convert import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from zoo_model import BINARY, GRADES, QUANTITY, SIGNALS, TRAIN, Made, asked, holed, on_thresholds, positive

EXPORTER = "onnxmltools"
OPSET = 15


def inputs():
    return [("x", FloatTensorType([None, SIGNALS]))]


def made(name, family, converted, rows):
    converted.graph.name = name
    content = converted.SerializeToString(deterministic=True)
    return Made(name, family, EXPORTER, content, {"x": on_thresholds(content, rows)})


def xgboosted(name, model, target, train=TRAIN, rows=None):
    model.fit(train, target)
    converted = convert_xgboost(model, initial_types=inputs(), target_opset=OPSET)
    return made(f"xgboost_{name}", "XGBoost", converted, asked() if rows is None else rows)


def xgboost_models():
    settings = {"n_estimators": 12, "max_depth": 4, "n_jobs": 1, "random_state": 0}
    classifier = lambda **more: xgboost.XGBClassifier(**(settings | more))
    regressor = lambda **more: xgboost.XGBRegressor(**(settings | more))
    counts, shares = positive(TRAIN)[:, 0], 1 / (1 + np.exp(-QUANTITY))
    holes = {"train": holed(TRAIN, "train"), "rows": holed(asked(), "asked")}
    yield xgboosted("binary", classifier(), BINARY)
    yield xgboosted("grades", classifier(), GRADES)
    yield xgboosted("binary_missing", classifier(), BINARY, **holes)
    yield xgboosted("grades_missing", classifier(), GRADES, **holes)
    yield xgboosted("regressor", regressor(), QUANTITY)
    yield xgboosted("regressor_missing", regressor(), QUANTITY, **holes)
    yield xgboosted("regressor_base", regressor(base_score=2.5), QUANTITY)
    yield xgboosted("poisson", regressor(objective="count:poisson"), counts)
    yield xgboosted("gamma", regressor(objective="reg:gamma"), counts + 1)
    yield xgboosted("tweedie", regressor(objective="reg:tweedie"), counts)
    yield xgboosted("logistic_regressor", regressor(objective="reg:logistic"), shares)
    yield xgboosted("absolute", regressor(objective="reg:absoluteerror"), QUANTITY)
    yield xgboosted("one_tree", classifier(n_estimators=1), BINARY)
    forest = xgboost.XGBRFRegressor(n_estimators=8, max_depth=4, n_jobs=1, random_state=0)
    yield xgboosted("forest", forest, QUANTITY)


def lightgbmed(name, model, target, train=TRAIN, rows=None, **options):
    model.fit(train, target)
    converted = convert_lightgbm(model, initial_types=inputs(), target_opset=OPSET, **options)
    return made(f"lightgbm_{name}", "LightGBM", converted, asked() if rows is None else rows)


def lightgbm_models():
    settings = {
        "n_estimators": 12,
        "num_leaves": 12,
        "n_jobs": 1,
        "verbose": -1,
        "random_state": 0,
        "deterministic": True,
        "force_row_wise": True,
    }
    classifier = lambda **more: lightgbm.LGBMClassifier(**(settings | more))
    regressor = lambda **more: lightgbm.LGBMRegressor(**(settings | more))
    counts, plain = positive(TRAIN)[:, 0], {"zipmap": False}
    holes = {"train": holed(TRAIN, "train"), "rows": holed(asked(), "asked")}
    yield lightgbmed("binary", classifier(), BINARY, **plain)
    yield lightgbmed("binary_zipmap", classifier(), BINARY)
    yield lightgbmed("grades", classifier(), GRADES, **plain)
    yield lightgbmed("binary_missing", classifier(), BINARY, **holes, **plain)
    yield lightgbmed("grades_missing", classifier(), GRADES, **holes, **plain)
    yield lightgbmed("regressor", regressor(), QUANTITY)
    yield lightgbmed("regressor_missing", regressor(), QUANTITY, **holes)
    yield lightgbmed("regressor_split", regressor(), QUANTITY, split=5)
    yield lightgbmed("poisson", regressor(objective="poisson"), counts)
    yield lightgbmed("tweedie", regressor(objective="tweedie"), counts)
    yield lightgbmed("absolute", regressor(objective="regression_l1"), QUANTITY)
    forest = regressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7)
    yield lightgbmed("forest", forest, QUANTITY)
    zeros = np.where(np.abs(TRAIN) < 0.2, 0, TRAIN).astype(np.float32)
    rows = np.where(np.abs(asked()) < 0.2, 0, asked()).astype(np.float32)
    yield lightgbmed("zero_is_missing", classifier(zero_as_missing=True), BINARY, zeros, rows, **plain)


def models():
    return [*xgboost_models(), *lightgbm_models()]

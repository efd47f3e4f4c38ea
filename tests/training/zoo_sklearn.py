"""scikit-learn's estimators through skl2onnx, as its users export them."""

import warnings

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common import _container
from skl2onnx.common.data_types import FloatTensorType
from sklearn import (
    calibration,
    cluster,
    compose,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)

from zoo_model import BINARY, GRADES, QUANTITY, SIGNALS, TRAIN, WORDS, Made, asked, holed, on_thresholds, positive

EXPORTER = "skl2onnx"
make_node = _container.make_node


def node_of_plain_numbers(*arguments, **attributes):
    """skl2onnx hands on numpy's whole numbers and truths where a histogram tree has them; this version of onnx takes Python's
    whole numbers only."""
    plain = lambda value: int(value) if isinstance(value, (np.integer, np.bool_, bool)) else value
    lists = {name: [plain(one) for one in value] if isinstance(value, list) else value for name, value in attributes.items()}
    return make_node(*arguments, **lists)


_container.make_node = node_of_plain_numbers
OPSETS = {"": 17, "ai.onnx.ml": 3}
PLAIN = {"zipmap": False}


class Zoo:
    """Fits and converts one estimator after the other."""

    def __init__(self):
        self.made = []

    def add(self, name, family, estimator, target=None, options=None, train=TRAIN, rows=None, opsets=OPSETS, batch="any"):
        """`options` are skl2onnx's for this estimator; `rows` are what the model is asked."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(train) if target is None else estimator.fit(train, target)
            converted = convert_sklearn(
                estimator,
                initial_types=[("x", FloatTensorType([None, train.shape[1]]))],
                options={id(estimator): options} if options else None,
                target_opset=opsets,
                name=name,
            )
        content = converted.SerializeToString(deterministic=True)
        rows = on_thresholds(content, asked() if rows is None else rows)
        self.made.append(Made(name, family, EXPORTER, content, {"x": rows}, batch))


def scalers(zoo):
    for name, scaler in [
        ("standard_scaler", preprocessing.StandardScaler()),
        ("minmax_scaler", preprocessing.MinMaxScaler(clip=True)),
        ("robust_scaler", preprocessing.RobustScaler()),
        ("maxabs_scaler", preprocessing.MaxAbsScaler()),
        ("power_transformer", preprocessing.PowerTransformer()),
    ]:
        zoo.add(name, "scaling", scaler)
    for norm in ("l1", "l2", "max"):
        zoo.add(f"normalizer_{norm}", "normalizing", preprocessing.Normalizer(norm))
    zoo.add("binarizer", "binarizing", preprocessing.Binarizer(threshold=0.25))
    zoo.add("polynomial", "polynomial features", preprocessing.PolynomialFeatures(2))
    zoo.add("polynomial_products", "polynomial features", preprocessing.PolynomialFeatures(3, interaction_only=True))
    for strategy in ("quantile", "uniform"):
        bins = preprocessing.KBinsDiscretizer(4, encode="onehot-dense", strategy=strategy)
        zoo.add(f"kbins_onehot_{strategy}", "binning", bins)
    zoo.add("kbins_ordinal", "binning", preprocessing.KBinsDiscretizer(4, encode="ordinal", strategy="quantile"))
    counts, asked_counts = np.minimum(positive(TRAIN), 3), np.minimum(positive(asked()), 3)
    onehot = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    zoo.add("onehot", "one-hot", onehot, train=counts, rows=asked_counts)
    zoo.add("ordinal_encoder", "ordinal codes", preprocessing.OrdinalEncoder(), train=counts, rows=asked_counts)


def imputers(zoo):
    train, rows = holed(TRAIN, "train"), holed(asked(), "asked")
    for strategy in ("mean", "median"):
        zoo.add(f"imputer_{strategy}", "missing values", impute.SimpleImputer(strategy=strategy), train=train, rows=rows)
    whole = pipeline.make_pipeline(
        impute.SimpleImputer(), preprocessing.StandardScaler(), linear_model.LogisticRegression()
    )
    zoo.add("imputer_scaler_logistic", "logistic regression", whole, BINARY, PLAIN, train, rows)


def projections(zoo):
    scaled = lambda last: pipeline.make_pipeline(preprocessing.StandardScaler(), last)
    zoo.add("scaler_pca_small", "principal components", scaled(decomposition.PCA(3, random_state=0)))
    zoo.add("pca_whiten", "principal components", decomposition.PCA(4, whiten=True, random_state=0))
    zoo.add("incremental_pca", "principal components", decomposition.IncrementalPCA(4))
    zoo.add("truncated_svd", "principal components", decomposition.TruncatedSVD(4, random_state=0))
    zoo.add("kernel_pca", "kernel components", decomposition.KernelPCA(3, kernel="rbf", random_state=0), train=TRAIN[:60])
    zoo.add("select_best", "feature selection", feature_selection.SelectKBest(k=4), BINARY)
    zoo.add("variance_threshold", "feature selection", feature_selection.VarianceThreshold(0.3))
    parts = compose.ColumnTransformer(
        [
            ("scaled", preprocessing.StandardScaler(), [0, 1, 2, 3]),
            ("ranged", preprocessing.MinMaxScaler(), [5, 6]),
            ("kept", "passthrough", [7]),
        ]
    )
    zoo.add("column_transformer", "columns apart", parts)
    union = pipeline.make_union(preprocessing.StandardScaler(), decomposition.PCA(2, random_state=0))
    zoo.add("feature_union", "columns apart", union)


def linear(zoo):
    logistic = linear_model.LogisticRegression
    zoo.add("logistic", "logistic regression", logistic(), BINARY, PLAIN)
    zoo.add("logistic_zipmap", "logistic regression", logistic(), BINARY)
    zoo.add("logistic_words", "logistic regression", logistic(), WORDS, PLAIN)
    zoo.add("logistic_words_zipmap", "logistic regression", logistic(), WORDS)
    zoo.add("logistic_grades", "logistic regression", logistic(), GRADES, PLAIN)
    zoo.add("logistic_raw", "logistic regression", logistic(), BINARY, {"zipmap": False, "raw_scores": True})
    zoo.add("logistic_columns", "logistic regression", logistic(), GRADES, {"zipmap": "columns"})
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), logistic())
    zoo.add("scaler_logistic", "logistic regression", scaled, BINARY, PLAIN)
    rest = multiclass.OneVsRestClassifier(logistic())
    zoo.add("logistic_one_vs_rest", "logistic regression", rest, GRADES, PLAIN)
    for name, estimator in [
        ("linear_regression", linear_model.LinearRegression()),
        ("ridge", linear_model.Ridge()),
        ("lasso", linear_model.Lasso(0.01)),
        ("elastic_net", linear_model.ElasticNet(0.01)),
        ("sgd_regressor", linear_model.SGDRegressor(random_state=0)),
        ("linear_svr", svm.LinearSVR(random_state=0)),
        ("bayesian_ridge", linear_model.BayesianRidge()),
    ]:
        zoo.add(name, "linear regression", estimator, QUANTITY)
    both = np.stack([QUANTITY, TRAIN[:, 4]], axis=1)
    zoo.add("linear_two_targets", "linear regression", linear_model.LinearRegression(), both)
    poisson = linear_model.PoissonRegressor()
    zoo.add("poisson_regressor", "linear regression", poisson, positive(TRAIN)[:, 0])


def linear_classifiers(zoo):
    for loss in ("log_loss", "hinge", "modified_huber"):
        sgd = linear_model.SGDClassifier(loss=loss, random_state=0)
        options = PLAIN if loss != "hinge" else {"zipmap": False, "raw_scores": True}
        zoo.add(f"sgd_{loss}", "stochastic gradient descent", sgd, GRADES, options)
    zoo.add("linear_svc", "linear support vectors", svm.LinearSVC(random_state=0), BINARY)
    zoo.add("ridge_classifier", "linear support vectors", linear_model.RidgeClassifier(), BINARY, PLAIN)
    lda, qda = discriminant_analysis.LinearDiscriminantAnalysis(), discriminant_analysis.QuadraticDiscriminantAnalysis()
    zoo.add("discriminant_linear", "discriminant analysis", lda, GRADES, PLAIN)
    # skl2onnx gives the labels as [1, rows].
    zoo.add("discriminant_quadratic", "discriminant analysis", qda, GRADES, PLAIN, batch="one")
    zoo.add("sgd_one_class", "one-class linear", linear_model.SGDOneClassSVM(random_state=0))


def clusters(zoo):
    zoo.add("kmeans_small", "k-means", cluster.KMeans(5, n_init=2, random_state=0))
    zoo.add("kmeans_minibatch", "k-means", cluster.MiniBatchKMeans(5, n_init=2, random_state=0))
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), cluster.KMeans(5, n_init=2, random_state=0))
    zoo.add("scaler_kmeans", "k-means", scaled)
    for kind in ("full", "diag", "tied", "spherical"):
        zoo.add(f"mixture_{kind}", "Gaussian mixture", mixture.GaussianMixture(3, covariance_type=kind, random_state=0))
    scored = mixture.GaussianMixture(3, random_state=0)
    zoo.add("mixture_scores", "Gaussian mixture", scored, options={"score_samples": True})
    for kind in ("full", "diag"):
        bayesian = mixture.BayesianGaussianMixture(n_components=3, covariance_type=kind, random_state=0)
        zoo.add(f"mixture_bayesian_{kind}", "Gaussian mixture", bayesian)


def outliers(zoo):
    forest = lambda trees, samples: ensemble.IsolationForest(n_estimators=trees, max_samples=samples, random_state=0)
    zoo.add("isolation_forest_20", "isolation forest", forest(20, 64))
    zoo.add("isolation_forest_100", "isolation forest", forest(100, 32))
    zoo.add("isolation_forest_scores", "isolation forest", forest(10, 64), options={"score_samples": True})
    whole = pipeline.make_pipeline(preprocessing.StandardScaler(), forest(10, 64))
    zoo.add("scaler_isolation_forest", "isolation forest", whole)
    lof = neighbors.LocalOutlierFactor(8, novelty=True)
    zoo.add("local_outlier_factor", "local outlier factor", lof, train=TRAIN[:120])
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        one = svm.OneClassSVM(kernel=kernel, nu=0.1, gamma=0.1, coef0=0.2)
        # A linear kernel over many vectors loses digits in f32 whoever sums it up.
        few = TRAIN[:30] if kernel == "linear" else TRAIN[:200]
        zoo.add(f"one_class_{kernel}", "one-class support vectors", one, train=few)


def support_vectors(zoo):
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        plain = svm.SVC(C=0.05 if kernel == "linear" else 1.0, kernel=kernel, gamma=0.1, coef0=0.2)
        zoo.add(f"svc_{kernel}", "support vectors", plain, BINARY[:200], PLAIN, TRAIN[:200])
    zoo.add("svc_grades", "support vectors", svm.SVC(gamma=0.1), GRADES[:200], PLAIN, TRAIN[:200])
    zoo.add("svc_words", "support vectors", svm.SVC(gamma=0.1), WORDS[:200], PLAIN, TRAIN[:200])
    sure = lambda: svm.SVC(gamma=0.1, probability=True, random_state=0)
    zoo.add("svc_probability", "support vectors", sure(), BINARY[:200], PLAIN, TRAIN[:200])
    zoo.add("svc_probability_grades", "support vectors", sure(), GRADES[:200], PLAIN, TRAIN[:200])
    zoo.add("svc_probability_zipmap", "support vectors", sure(), BINARY[:200], None, TRAIN[:200])
    zoo.add("nu_svc", "support vectors", svm.NuSVC(nu=0.2, gamma=0.1), BINARY[:200], PLAIN, TRAIN[:200])
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        plain = svm.SVR(C=0.05 if kernel == "linear" else 1.0, kernel=kernel, gamma=0.1)
        zoo.add(f"svr_{kernel}", "support vector regression", plain, QUANTITY[:120], None, TRAIN[:120])
    zoo.add("nu_svr", "support vector regression", svm.NuSVR(gamma=0.1), QUANTITY[:120], None, TRAIN[:120])


def trees(zoo):
    for name, classifier in [
        ("decision_tree", tree.DecisionTreeClassifier(max_depth=5, random_state=0)),
        ("random_forest", ensemble.RandomForestClassifier(10, max_depth=5, random_state=0)),
        ("extra_trees", ensemble.ExtraTreesClassifier(10, max_depth=5, random_state=0)),
    ]:
        zoo.add(name, name.replace("_", " "), classifier, BINARY, PLAIN)
        zoo.add(f"{name}_zipmap", name.replace("_", " "), classifier, BINARY)
        zoo.add(f"{name}_words", name.replace("_", " "), classifier, WORDS, PLAIN)
    for name, regressor in [
        ("decision_tree", tree.DecisionTreeRegressor(max_depth=5, random_state=0)),
        ("random_forest", ensemble.RandomForestRegressor(10, max_depth=5, random_state=0)),
        ("extra_trees", ensemble.ExtraTreesRegressor(10, max_depth=5, random_state=0)),
    ]:
        zoo.add(f"{name}_regressor", name.replace("_", " "), regressor, QUANTITY)
    both = np.stack([QUANTITY, TRAIN[:, 4]], axis=1)
    several = ensemble.RandomForestRegressor(5, max_depth=4, random_state=0)
    zoo.add("random_forest_two_targets", "random forest", several, both)


def boosting(zoo):
    boosted = lambda: ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0)
    zoo.add("gradient_boosting", "gradient boosting", boosted(), BINARY, PLAIN)
    zoo.add("gradient_boosting_grades", "gradient boosting", boosted(), GRADES, PLAIN)
    zoo.add("gradient_boosting_zipmap", "gradient boosting", boosted(), BINARY)
    regressor = ensemble.GradientBoostingRegressor(n_estimators=10, random_state=0)
    zoo.add("gradient_boosting_regressor", "gradient boosting", regressor, QUANTITY)
    train, rows = holed(TRAIN, "train"), holed(asked(), "asked")
    for name, target in [("", BINARY), ("_grades", GRADES)]:
        histogram = ensemble.HistGradientBoostingClassifier(max_iter=10, max_leaf_nodes=8, random_state=0)
        zoo.add(f"hist_boosting{name}", "histogram boosting", histogram, target, PLAIN, train, rows)
    histogram = ensemble.HistGradientBoostingRegressor(max_iter=10, max_leaf_nodes=8, random_state=0)
    zoo.add("hist_boosting_regressor", "histogram boosting", histogram, QUANTITY, None, train, rows)
    zoo.add("adaboost", "AdaBoost", ensemble.AdaBoostClassifier(n_estimators=8, random_state=0), BINARY, PLAIN)
    zoo.add("adaboost_grades", "AdaBoost", ensemble.AdaBoostClassifier(n_estimators=8, random_state=0), GRADES, PLAIN)
    zoo.add("adaboost_regressor", "AdaBoost", ensemble.AdaBoostRegressor(n_estimators=8, random_state=0), QUANTITY)
    shallow = tree.DecisionTreeClassifier(max_depth=4)
    zoo.add("bagging", "bagging", ensemble.BaggingClassifier(shallow, 6, random_state=0), BINARY, PLAIN)
    shallow = tree.DecisionTreeRegressor(max_depth=4)
    zoo.add("bagging_regressor", "bagging", ensemble.BaggingRegressor(shallow, 6, random_state=0), QUANTITY)


def neighbours(zoo):
    few, kinds = TRAIN[:120], GRADES[:120]
    zoo.add("knn", "nearest neighbours", neighbors.KNeighborsClassifier(5), kinds, PLAIN, few)
    weighed = neighbors.KNeighborsClassifier(5, weights="distance")
    zoo.add("knn_distance", "nearest neighbours", weighed, kinds, PLAIN, few)
    zoo.add("knn_regressor", "nearest neighbours", neighbors.KNeighborsRegressor(5), QUANTITY[:120], None, few)
    zoo.add("naive_bayes", "naive Bayes", naive_bayes.GaussianNB(), GRADES, PLAIN)
    counts, rows = positive(TRAIN), positive(asked())
    zoo.add("naive_bayes_multinomial", "naive Bayes", naive_bayes.MultinomialNB(), GRADES, PLAIN, counts, rows)
    zoo.add("naive_bayes_bernoulli", "naive Bayes", naive_bayes.BernoulliNB(binarize=0.0), GRADES, PLAIN)
    process = gaussian_process.GaussianProcessRegressor(alpha=0.1, random_state=0)
    zoo.add("gaussian_process", "Gaussian process", process, QUANTITY[:60], None, TRAIN[:60])


def networks(zoo):
    for activation in ("relu", "tanh", "logistic"):
        network = neural_network.MLPRegressor(hidden_layer_sizes=(12, 4, 12), activation=activation, max_iter=60, random_state=0)
        zoo.add(f"mlp_autoencoder_{activation}", "dense autoencoder", network, TRAIN)
    network = neural_network.MLPClassifier((10,), max_iter=80, random_state=0)
    zoo.add("mlp_classifier", "dense classifier", network, BINARY, PLAIN)
    network = neural_network.MLPClassifier((10, 6), max_iter=80, random_state=0)
    zoo.add("mlp_classifier_words", "dense classifier", network, WORDS, PLAIN)


def combinations(zoo):
    members = lambda: [
        ("logistic", linear_model.LogisticRegression()),
        ("tree", tree.DecisionTreeClassifier(max_depth=4, random_state=0)),
        ("bayes", naive_bayes.GaussianNB()),
    ]
    for kind in ("soft", "hard"):
        # Only the soft vote has probabilities.
        options = PLAIN
        voters = ensemble.VotingClassifier(members(), voting=kind, flatten_transform=False)
        zoo.add(f"voting_{kind}", "voting and stacking", voters, GRADES, options)
    stack = ensemble.StackingClassifier(members(), linear_model.LogisticRegression(), cv=3)
    zoo.add("stacking", "voting and stacking", stack, BINARY, PLAIN)
    pair = [("ridge", linear_model.Ridge()), ("tree", tree.DecisionTreeRegressor(max_depth=4, random_state=0))]
    zoo.add("voting_regressor", "voting and stacking", ensemble.VotingRegressor(pair), QUANTITY)
    zoo.add("stacking_regressor", "voting and stacking", ensemble.StackingRegressor(pair, cv=3), QUANTITY)
    for method in ("sigmoid", "isotonic"):
        sure = calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method=method, cv=3)
        zoo.add(f"calibrated_{method}", "voting and stacking", sure, BINARY, PLAIN)
    whole = pipeline.make_pipeline(
        preprocessing.RobustScaler(),
        decomposition.PCA(5, random_state=0),
        ensemble.RandomForestClassifier(8, max_depth=4, random_state=0),
    )
    zoo.add("robust_pca_forest", "voting and stacking", whole, WORDS, PLAIN)
    old = {"": 12, "ai.onnx.ml": 1}
    whole = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    zoo.add("scaler_logistic_opset12", "logistic regression", whole, BINARY, PLAIN, opsets=old)


PARTS = [
    scalers,
    imputers,
    projections,
    linear,
    linear_classifiers,
    clusters,
    outliers,
    support_vectors,
    trees,
    boosting,
    neighbours,
    networks,
    combinations,
]


def models():
    zoo = Zoo()
    for part in PARTS:
        part(zoo)
    assert all(len(made.inputs["x"]) and made.inputs["x"].shape[1] == SIGNALS for made in zoo.made)
    return zoo.made

"""Recommend, fit and calibrate a model for a table, as a scikit-learn estimator.

python examples/hospital_table.py
"""

from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from jmeta import MetaClassifierCV

x, y = load_breast_cancer(return_X_y=True, as_frame=True)
x_fit, x_test, y_fit, y_test = train_test_split(x, y, random_state=0, stratify=y)

for budget in (0, 8):
    model = MetaClassifierCV(budget=budget).fit(x_fit, y_fit)
    chosen = model.recommendation_
    loss = log_loss(y_test, model.predict_proba(x_test))
    print(f"budget {budget}: {chosen.model}, log loss on held-out rows {loss:.4f}")
    print(f"  expected {chosen.expected}")
    print(f"  because of {[row['feature'] for row in chosen.explanation[:3]]}")

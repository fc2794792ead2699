"""What an audit gives back: plain, frozen results, each a number, picture, chart or table that explains itself."""

from pytest_cnnaudit.results.exhibits import Bars, Chart, Exhibit, Form, Line, Mark, Picture, Row, Table, TableRow
from pytest_cnnaudit.results.measurement import Cached, Cost, Measurement
from pytest_cnnaudit.results.metric import Comparison, Metric, figure, require, shortfall

__all__ = [
    "Bars",
    "Cached",
    "Chart",
    "Comparison",
    "Cost",
    "Exhibit",
    "Form",
    "Line",
    "Mark",
    "Measurement",
    "Metric",
    "Picture",
    "Row",
    "Table",
    "TableRow",
    "figure",
    "require",
    "shortfall",
]

"""A report on anyone's predictions: floors, conventions, traps, intervals, tests, calibration and resolution.

`read.read` checks a CSV or Parquet file, `report.audit` computes, `text` and `html` show. No model of ours is needed.
"""
